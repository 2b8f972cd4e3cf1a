from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk
from test_handoff import nifti_handoff
from tiny_spaces import DIRECTIONS, MARKER, add_case, voxels, write_nifti

from nnunet_active.annotation.archive import Archive
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.errors import BadCase, MissingInput


@pytest.fixture
def handoff(tmp_path):
    return nifti_handoff(tmp_path)


def archive_of(handoff) -> Archive:
    return Archive(handoff.archive, handoff.store, handoff.description, handoff.predict)


def test_a_prediction_is_made_once_and_read_afterwards(handoff):
    archive, raw = archive_of(handoff), handoff.cases[0].raw
    first, again = archive.get(raw), archive.get(raw)
    assert handoff.predicted == 1
    assert np.array_equal(first.label, again.label) and np.array_equal(first.uncertainty, again.uncertainty)
    assert first.label.dtype == np.uint8 and first.label[MARKER] == 1
    assert {file.name for file in handoff.archive.iterdir()} == {
        ".c.image.json",
        "c.nii.gz",
        "c_uncertainty.nii.gz",
    }


@pytest.mark.parametrize("name", ["c.nii.gz", "c_uncertainty.nii.gz"])
@pytest.mark.parametrize("content", [None, b"", b"half a file"])
def test_a_damaged_or_absent_file_is_made_anew(handoff, name, content):
    archive, raw = archive_of(handoff), handoff.cases[0].raw
    expected = archive.get(raw)
    file = handoff.archive / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    found = archive.get(raw)
    assert handoff.predicted == 2 and np.array_equal(found.label, expected.label)


def test_a_prediction_of_an_image_that_was_replaced_is_made_anew(handoff):
    archive, raw = archive_of(handoff), handoff.cases[0].raw
    archive.get(raw)
    write_nifti(raw.images[0], DIRECTIONS["flipped"], array=np.concatenate([voxels(), voxels(1)]))
    case = add_case(handoff.store, handoff.description, raw.images[0])
    assert archive.get(case.raw).label.shape == (18, 12, 10) and handoff.predicted == 2


def test_a_prediction_of_another_image_of_the_same_size_is_made_anew(handoff):
    archive, raw = archive_of(handoff), handoff.cases[0].raw
    before = archive.get(raw).label
    write_nifti(raw.images[0], DIRECTIONS["oblique"], array=voxels()[..., ::-1].copy())
    case = add_case(handoff.store, handoff.description, raw.images[0])
    after = archive.get(case.raw).label
    assert handoff.predicted == 2 and before[MARKER] == 1 and np.array_equal(after, before[..., ::-1])
    assert archive.get(case.raw).label.shape == before.shape and handoff.predicted == 2


def test_a_copied_image_keeps_its_prediction_and_so_does_an_archive_without_records(handoff):
    archive, raw = archive_of(handoff), handoff.cases[0].raw
    archive.get(raw)
    os.utime(raw.images[0], (1, 1))
    archive.get(raw)
    (handoff.archive / ".c.image.json").unlink()
    archive.get(raw)
    assert handoff.predicted == 1


def test_a_kill_while_an_image_is_predicted_anew_leaves_no_label_of_the_image_before(handoff, monkeypatch):
    archive, raw = archive_of(handoff), handoff.cases[0].raw
    before = archive.get(raw).label
    write_nifti(raw.images[0], DIRECTIONS["oblique"], array=voxels()[..., ::-1].copy())
    case = add_case(handoff.store, handoff.description, raw.images[0])

    rename, renamed = os.replace, []

    def killed(source, target):  # after the record of the image has been written
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("nnunet_active.annotation.archive.os.replace", killed)
        archive.get(case.raw)
    assert np.array_equal(archive.get(case.raw).label, before[..., ::-1])


def test_a_case_that_is_not_preprocessed_is_named(handoff):
    with pytest.raises(MissingInput, match="Case d"):
        archive_of(handoff).get(RawCase("d", handoff.cases[0].raw.images, None))


def test_a_case_whose_whole_prediction_does_not_fit_into_memory_is_named(handoff):
    def too_large(image):
        raise BadCase("its logits need 37.0 GiB")

    archive = Archive(handoff.archive, handoff.store, handoff.description, too_large)
    with pytest.raises(BadCase, match="Case c: its logits need 37"):
        archive.get(handoff.cases[0].raw)


def test_the_uncertainty_is_in_nats_in_a_file_that_any_program_reads(handoff):
    archived = archive_of(handoff).get(handoff.cases[0].raw)
    image = sitk.ReadImage(str(archived.uncertainty_file))
    assert image.GetPixelID() == sitk.sitkFloat32
    p = np.exp([1.0, 0, 0]) / np.exp([1.0, 0, 0]).sum()
    assert sitk.GetArrayFromImage(image).max() == pytest.approx(-(p * np.log(p)).sum(), abs=1e-3)
