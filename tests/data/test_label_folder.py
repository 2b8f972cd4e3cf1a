from __future__ import annotations

import os

import pytest

from nnunet_active.data.label_folder import LabelFolder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "labelsTr"


def put(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_a_folder_that_is_not_there_holds_no_label(folder):
    labels = LabelFolder(folder, ".nii.gz")
    assert labels.label_of("a") is None and labels.finish() == {} and labels.warnings == {}


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.NII.GZ", "a.mha", "a.seg.nrrd", "a.nrrd"])
def test_a_label_is_found_in_every_format(folder, name):
    put(folder, name)
    labels = LabelFolder(folder, ".nii.gz")
    assert labels.label_of("a") == folder / name and labels.finish() == {} and labels.warnings == {}


def test_a_slicer_segmentation_is_found_in_a_data_set_of_nrrd_files(folder):
    put(folder, "a.seg.nrrd", "b.nrrd")
    labels = LabelFolder(folder, ".nrrd")
    assert labels.label_of("a") == folder / "a.seg.nrrd" and labels.label_of("b") == folder / "b.nrrd"
    assert labels.finish() == {}


def test_the_data_sets_own_format_counts_first_and_what_is_passed_over_is_counted_and_named(folder):
    put(folder, "a.mha", "a.nii.gz", "b.nii.gz", "b.seg.nrrd")
    labels = LabelFolder(folder, ".nii.gz")
    assert labels.label_of("a") == folder / "a.nii.gz" and labels.label_of("b") == folder / "b.nii.gz"
    assert labels.finish() == {}
    (warning,) = labels.warnings.values()
    assert "2 label file(s)" in warning and "a.mha, b.seg.nrrd" in warning


def test_of_several_other_formats_none_is_preferred(folder):
    put(folder, "a.mha", "a.seg.nrrd")
    labels = LabelFolder(folder, ".nii.gz")
    assert labels.label_of("a") is None
    assert "2 label files, a.mha, a.seg.nrrd" in labels.warnings["a"] and "counts as unlabelled" in labels.warnings["a"]


def test_labels_of_no_case_are_named(folder):
    put(folder, "a.nii.gz", "orphan.mha", "a_0000.nii.gz", "notes.txt")
    labels = LabelFolder(folder, ".nii.gz")
    labels.label_of("a")
    found = labels.finish()
    assert sorted(found) == ["a_0000", "orphan"] and "has no image" in found["orphan"]
    assert "has a channel number" in found["a_0000"] and "rename it to a.nii.gz" in found["a_0000"]


def test_a_pipe_is_never_taken_for_a_label(folder):
    put(folder)
    os.mkfifo(folder / "a.nii.gz")
    labels = LabelFolder(folder, ".nii.gz")
    assert labels.label_of("a") is None and "no regular file" in labels.warnings["a"]


def test_a_label_here_in_the_data_sets_format_comes_before_one_that_is_listed_in_another_and_it_is_said(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    labels, other = LabelFolder(tmp_path, ".nii.gz"), tmp_path / "elsewhere" / "scan"
    for listed in (other.with_name("scan.nii.gz"), tmp_path / "b.nii.gz"):
        assert labels.before_listed("a", listed) == listed and not labels.warnings
    assert labels.before_listed("b", other.with_name("scan.nrrd")) == other.with_name("scan.nrrd")
    assert labels.before_listed("a", other.with_name("scan.nrrd")) == tmp_path / "a.nii.gz"
    assert "scan.nrrd, which dataset.json lists in another format" in labels.warnings["a"]
