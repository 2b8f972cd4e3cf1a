from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from tiny_spaces import make_store, voxels
from tiny_target import NAME, PLANS, make_target

from nnunet_active.data.cases_set_aside import FILE, cases_set_aside
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset


@pytest.fixture
def target(nnunet_folders):
    """Of three scans one has a channel of another size."""
    made = make_target(nnunet_folders, labelled=1, unlabelled=2)
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), dtype=np.float32))
    for channel in range(3):
        (made.raw / "imagesTr" / f"odd_{channel:04d}.nii.gz").write_bytes(
            (made.raw / "imagesTr" / f"case_0_{channel:04d}.nii.gz").read_bytes()
        )
    sitk.WriteImage(image, made.raw / "imagesTr" / "odd_0001.nii.gz")
    made.preprocess()
    return made


def found(target) -> dict[str, str]:
    return cases_set_aside(target.store, RawDataset(target.raw))


def test_a_case_that_preprocessing_refused_is_known_with_the_reason_and_the_others_are_not(target):
    assert list(found(target)) == ["odd"] and "odd" in found(target)["odd"]


def test_a_note_counts_only_for_the_files_that_were_looked_at(target):
    (target.raw / "imagesTr" / "odd_0001.nii.gz").write_bytes(
        (target.raw / "imagesTr" / "case_1_0001.nii.gz").read_bytes()
    )
    assert found(target) == {}
    target.preprocess()
    assert found(target) == {} and "odd" in target.store.identifiers()


def test_a_note_does_not_count_once_the_spacing_beside_a_tiff_file_was_corrected(tmp_path):
    store, described = make_store(tmp_path / "preprocessed", "Tiff3DIO", ".tif")
    raw = tmp_path / "Dataset902_Tiff"
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(described))
    tifffile.imwrite(raw / "imagesTr" / "a_0000.tif", voxels())
    (raw / "imagesTr" / "a.json").write_text(json.dumps({"spacing": [3.3, 1.1]}))
    preprocess_dataset(RawDataset(raw), store, described, 1, False)
    assert list(cases_set_aside(store, RawDataset(raw))) == ["a"]
    (raw / "imagesTr" / "a.json").write_text(json.dumps({"spacing": [3.3, 1.1, 0.78]}))
    assert cases_set_aside(store, RawDataset(raw)) == {}


def test_what_is_wrong_with_the_files_themselves_is_said_without_any_note(target):
    (target.raw / "imagesTr" / "case_2_0002.nii.gz").unlink()
    assert list(found(target)) == ["case_2", "odd"]


@pytest.mark.parametrize("content", ["", "[1]", '{"x": 1}', '{"x": {"odd": "words"}}', "\x00"])
def test_a_note_that_cannot_be_read_is_made_anew(target, content):
    file = target.preprocessed / "active" / FILE
    file.write_text(content)
    assert found(target) == {}
    target.preprocess()
    assert list(found(target)) == ["odd"]


def test_nothing_is_written_where_nothing_has_changed(target):
    before = (target.preprocessed / "active" / FILE).stat().st_mtime_ns
    target.preprocess()
    assert (target.preprocessed / "active" / FILE).stat().st_mtime_ns == before
    assert (NAME, PLANS) == ("Dataset902_TinyTarget", "nnUNetActivePlans")
