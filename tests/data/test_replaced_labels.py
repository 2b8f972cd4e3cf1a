from __future__ import annotations

import os

import numpy as np
import pytest
import tiny_dataset as tiny
from tiny_nrrd import write_segmentation

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.label_intake import ground_truth
from nnunet_active.data.preprocessing import preprocess_case, preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.data.replaced_labels import REPLACED_LABELS, keep_copy, keep_for_campaigns

ENDING = tiny.ENDING


def test_a_replaced_file_is_kept_once_and_keeps_its_time(tmp_path):
    file = tmp_path / "a.nii.gz"
    for content in ("one", "two", "one"):
        file.write_text(content)
        os.utime(file, (1e9, 1e9))
        kept = keep_copy(file, tmp_path / "kept", "a", ENDING)
        assert kept.read_text() == content and kept.stat().st_mtime == 1e9 and kept.name.endswith(ENDING)
        assert keep_copy(file, tmp_path / "kept", "a", ENDING) == kept
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert sorted(path.read_text() for path in (tmp_path / "kept").iterdir()) == ["one", "two"]


@pytest.fixture
def raw(tmp_path):
    return tiny.make_raw(tmp_path / "raw")


@pytest.fixture
def store(tmp_path, raw):
    """Preprocessed, with campaigns of two folds."""
    made = CaseStore(tmp_path / "preprocessed", tiny.make_plans(), "3d_fullres")
    for fold in ("fold_0", "fold_all"):
        (made.dataset_folder / "active" / fold).mkdir(parents=True)
        (made.dataset_folder / "active" / fold / "campaign.json").touch()
    preprocess(raw, made)
    return made


def preprocess(raw, store):
    dataset = RawDataset(raw)
    return preprocess_dataset(dataset, store, dataset.dataset_json, processes=1, progress=False)


def segmented(raw, case: str, seed: int) -> None:
    names = [{"Name": name, "LabelValue": v} for name, v in tiny.DATASET_JSON["labels"].items() if v]
    file = raw / "labelsTr" / f"{case}.seg.nrrd"
    write_segmentation(file, tiny.segmentation(seed), names, tiny.SPACING, (5.0, -7.0, 2.0))


def kept(store) -> list[list[bytes]]:
    folders = sorted((store.dataset_folder / "active").glob(f"fold_*/{REPLACED_LABELS}"))
    return [sorted(file.read_bytes() for file in folder.iterdir()) for folder in folders]


def test_a_label_that_was_corrected_and_preprocessed_is_kept_by_every_campaign(raw, store):
    file = raw / "labelsTr" / f"a{ENDING}"
    first = file.read_bytes()
    tiny.write_image(file, tiny.segmentation(7))
    second = file.read_bytes()
    assert preprocess(raw, store).done == ["a"]
    assert kept(store) == [[first], [first]]
    tiny.write_image(file, tiny.segmentation(8))
    dataset = RawDataset(raw)
    preprocess_case(dataset.cases["a"], store, dataset.dataset_json)
    assert kept(store) == [sorted([first, second])] * 2


def test_a_label_that_was_only_saved_again_leaves_no_copy_in_whatever_format(raw, store):
    segmented(raw, "u", 4)
    preprocess(raw, store)
    for name in (f"a{ENDING}", "u.seg.nrrd"):
        os.utime(raw / "labelsTr" / name, (2e9, 2e9))
    assert preprocess(raw, store).done == ["a", "u"]
    assert kept(store) == []


def test_a_label_that_makes_way_for_one_of_another_format_is_kept_and_a_refused_one_replaces_nothing(raw, store):
    file = raw / "labelsTr" / f"a{ENDING}"
    first = file.read_bytes()
    tiny.write_image(file, np.full_like(tiny.segmentation(4), 77))
    assert "a" in preprocess(raw, store).problems and kept(store) == []
    dataset = RawDataset(raw)
    assert ground_truth(dataset.cases["a"], store, dataset.dataset_json).read_bytes() == first
    file.unlink()
    segmented(raw, "a", 7)
    assert preprocess(raw, store).done == ["a"]
    assert kept(store) == [[first], [first]]


def test_a_data_set_without_a_campaign_keeps_nothing(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    keep_for_campaigns(tmp_path / "a.nii.gz", tmp_path, "a", ".nii.gz")
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]
