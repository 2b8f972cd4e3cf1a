"""The laboratory for cheap trainings, on scans made here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import small_lab as lab


def _write(folder: Path, case: str, shape: tuple[int, int, int], channels: int = 2) -> None:
    rng = np.random.default_rng(len(case))
    label = np.zeros(shape, np.uint8)
    label[2:4, 4:12, 4:12] = 1
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for channel in range(channels):
        image = rng.normal(100, 10, shape) + 80 * label
        sitk.WriteImage(
            sitk.GetImageFromArray(image.astype(np.float32)), folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
        )
    sitk.WriteImage(sitk.GetImageFromArray(label), folder / "labelsTr" / f"{case}.nii.gz")


def _scan(name: str, side: int = 16, slices: int = 4) -> lab.Scan:
    label = torch.zeros(slices, side, side, dtype=torch.int64)
    label[1, 4:10, 4:10] = 1
    return lab.Scan(name, name, torch.randn(1, slices, side, side) + 3 * label, label)


def test_scans_are_halved_padded_to_16_and_read_from_the_cache_the_second_time(tmp_path):
    raw = tmp_path / "raw"
    _write(raw / "Dataset001_A", "patient001_frame01", (5, 40, 24))
    first = lab.read_scans(raw, "Dataset001_A", 0.5, tmp_path / "cache")
    (raw / "Dataset001_A" / "labelsTr" / "patient001_frame01.nii.gz").unlink()
    (scan,) = lab.read_scans(raw, "Dataset001_A", 0.5, tmp_path / "cache")
    assert (scan.name, scan.patient) == ("patient001_frame01", "patient001")
    assert scan.image.shape == (2, 5, 32, 16) and scan.label.shape == (5, 32, 16)
    assert set(scan.label.unique().tolist()) == {0, 1}
    assert torch.equal(scan.image, first[0].image) and torch.equal(scan.label, first[0].label)
    assert scan.image[:, :, :20, :12].mean().abs() < 0.05


def test_a_third_of_every_batch_has_foreground_and_a_batch_is_of_one_size():
    torch.manual_seed(0)
    samples = lab.Samples([(_scan("a", slices=40), None), (_scan("b", side=32, slices=40), [1, 2])])
    sizes = set()
    for _ in range(60):
        images, labels, _ = samples.draw(6)
        sizes.add(images.shape[-1])
        assert images.shape[0] == 6 and images.shape[-2:] == labels.shape[-2:]
        assert (labels > 0).flatten(1).any(1).sum() >= 2
    assert sizes == {16, 32}


def test_the_loss_is_that_of_a_perfect_prediction_only_where_labels_are_known():
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, :2] = 1
    logits = torch.stack([1.0 - target.float(), target.float()], 1) * 40
    assert lab.loss_of(logits, target) == pytest.approx(-1, abs=1e-3)
    wrong = target.clone()
    wrong[0, 3] = 1
    unknown = wrong.clone()
    unknown[0, 3] = lab.IGNORED
    assert lab.loss_of(logits, wrong) > 1
    assert lab.loss_of(logits, unknown) == pytest.approx(-1, abs=1e-3)
    assert lab.loss_of(logits, wrong, known=wrong == target) == pytest.approx(-1, abs=1e-3)


def test_a_fine_tuning_learns_and_the_interpolation_goes_from_the_source_to_it():
    torch.manual_seed(0)
    scan = _scan("a")
    network = lab.build(1, 2)
    source = {name: value.clone() for name, value in network.state_dict().items()}
    trained = lab.train(network, source, lab.Samples([(scan, None)]), 100, 3e-3)

    def dice(weights):
        network.load_state_dict(weights)
        return lab.dice_per_class(lab.probabilities(network, scan.image).argmax(1), scan.label, 2)[0]

    assert dice(trained) > 0.6 > dice(source)
    assert dice(lab.between(source, trained, 0.0)) == dice(source)
    assert all(torch.allclose(value, trained[name]) for name, value in lab.between(source, trained, 1.0).items())


def test_augmentation_moves_image_and_label_alike():
    torch.manual_seed(0)
    label = torch.zeros(32, 16, 16, dtype=torch.int64)
    label[:, 3:8, 5:12] = 1
    images, labels = lab.moved(label[:, None].float(), label)
    assert not torch.equal(labels, label)
    assert ((images[:, 0] > 0.5) == (labels == 1)).float().mean() > 0.97
