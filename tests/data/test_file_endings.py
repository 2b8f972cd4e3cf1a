from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunet_active.data.file_endings import carries_geometry, is_native, is_special, label_stems, other_images


def test_formats_that_say_where_their_voxels_lie_are_known_by_their_ending():
    assert carries_geometry("a.NII.GZ") and carries_geometry(".seg.nrrd") and not carries_geometry("a.tif")


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("a.nii.gz", ["a"]),
        ("a.NII.GZ", ["a"]),
        ("a.seg.nrrd", ["a", "a.seg"]),
        ("a.b.mha", ["a.b"]),
        ("a.tif", ["a"]),
        ("a.png", []),
        ("a.json", []),
    ],
)
def test_a_label_is_named_after_its_case_and_its_format(name, stems):
    assert label_stems(name, ".tif") == stems


def test_images_of_other_formats_are_found_and_hidden_or_other_files_are_none():
    names = ["b_0000.nii", "a_0000.NII.GZ", "ok_0000.nii.gz", ".hidden_0000.nii", "notes.txt", "photo.JPG"]
    assert other_images(names, ".nii.gz") == ["a_0000.NII.GZ", "b_0000.nii", "photo.JPG"]


def test_a_pipe_or_a_link_to_one_is_special_and_files_folders_and_broken_links_are_not(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    assert [is_special(tmp_path / name) for name in ("pipe", "link", "file", "broken")] == [True, True, False, False]
    assert not is_special(tmp_path)


def test_a_segmentation_of_another_program_is_not_in_the_data_sets_format_though_it_ends_like_it():
    names = ("a.nrrd", "a.seg.nrrd", "a.mitk.nrrd", "a.nii.gz")
    assert [is_native(Path(name), ".nrrd") for name in names] == [True, False, False, False]
    assert not is_native(Path("a.nii.gz"), ".nii")
