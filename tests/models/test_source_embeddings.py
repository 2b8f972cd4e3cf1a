from __future__ import annotations

import numpy as np
import pytest
import tiny_source
import torch
from tiny_target import make_target

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.models.source_embeddings import read_folder, source_embeddings
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.util.errors import IncompatibleSource, MissingInput

CPU = torch.device("cpu")


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders, labelled=3)


def test_the_embeddings_are_those_of_the_preprocessed_scans(target):
    source = tiny_source.source_model()
    network = tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json)
    window = SlidingWindow(network, source.plans, "3d_fullres", source.dataset_json, CPU)
    expected = [window.score(target.store.load_image(f"case_{i}"), 1.0).arrays["embedding"] for i in range(3)]
    found, problems = source_embeddings(source, RawDataset(target.raw), CPU, progress=False)
    np.testing.assert_array_equal(found, np.stack(expected))
    assert problems == {} and found.dtype == np.float32


def test_a_plain_folder_is_read_as_the_data_set_is_and_nothing_is_written_there(target):
    source = tiny_source.source_model()
    before = sorted(path.name for path in (target.raw / "imagesTr").iterdir())
    source.dataset_json["dataset"] = {"case_0": {"images": ["gone.nii.gz"]}, "x": {"images": ["gone.nii.gz"]}}
    raw = read_folder(target.raw / "imagesTr", source)  # the scans that the model was trained on were not asked for
    assert list(raw.cases) == ["case_0", "case_1", "case_2"]
    by_folder = source_embeddings(source, raw, CPU, progress=False)[0]
    np.testing.assert_array_equal(by_folder, source_embeddings(source, RawDataset(target.raw), CPU, progress=False)[0])
    assert sorted(path.name for path in (target.raw / "imagesTr").iterdir()) == before


def test_labels_are_not_read(target):
    for file in (target.raw / "labelsTr").iterdir():
        file.write_bytes(b"poison")
    assert len(source_embeddings(tiny_source.source_model(), RawDataset(target.raw), CPU, progress=False)[0]) == 3


def test_a_bad_scan_and_one_without_all_channels_are_set_aside(target):
    (target.raw / "imagesTr" / "case_0_0001.nii.gz").write_bytes(b"damaged")
    (target.raw / "imagesTr" / "case_1_0002.nii.gz").unlink()
    found, problems = source_embeddings(
        tiny_source.source_model(), read_folder(target.raw / "imagesTr", tiny_source.source_model()), CPU, False
    )
    assert len(found) == 1 and sorted(problems) == ["case_0", "case_1"]


def test_scans_that_are_not_the_models_are_refused(target, tmp_path):
    with pytest.raises(IncompatibleSource, match=r"3 channels.*has 2"):
        source_embeddings(tiny_source.source_model(channels=("CT", "PET")), RawDataset(target.raw), CPU, False)
    (tmp_path / "empty").mkdir()
    source = tiny_source.source_model()
    with pytest.raises(MissingInput, match=r"No image CASE_0000\.nii\.gz"):
        source_embeddings(source, read_folder(tmp_path / "empty", source), CPU, False)
    with pytest.raises(MissingInput, match="was not found"):
        read_folder(tmp_path / "nowhere", source)
