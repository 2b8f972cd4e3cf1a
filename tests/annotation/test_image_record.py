from __future__ import annotations

import os

import pytest

from nnunet_active.annotation.image_record import is_of_these, record_file, write_image_record


@pytest.fixture
def images(tmp_path):
    files = [tmp_path / f"c_000{channel}.nii.gz" for channel in range(2)]
    for file in files:
        file.write_bytes(b"first image")
    return files


def test_the_images_that_were_recorded_are_known_again_also_as_copies(tmp_path, images):
    file = record_file(tmp_path, "c")
    write_image_record(file, images)
    assert is_of_these(file, images)
    os.utime(images[1], (1, 1))
    assert is_of_these(file, images)


@pytest.mark.parametrize("content", [b"other image", b"a longer image"])
def test_one_channel_that_was_replaced_is_another_image(tmp_path, images, content):
    file = record_file(tmp_path, "c")
    write_image_record(file, images)
    images[1].write_bytes(content)
    os.utime(images[1], (1, 1))
    assert not is_of_these(file, images) and not is_of_these(file, images[:1])


@pytest.mark.parametrize("content", [None, b"", b'{"size": 1}', b'[{"size": "1"}]'])
def test_an_archive_of_an_earlier_version_and_a_damaged_record_tell_nothing(tmp_path, images, content):
    file = record_file(tmp_path, "c")
    if content is not None:
        file.write_bytes(content)
    assert is_of_these(file, images)
