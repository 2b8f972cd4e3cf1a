from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.demo.phantom import TRUTH_FILE, PhantomSizes, write_phantom_pair
from nnunet_active.demo.phantom_case import CHANNELS, SHAPE, SPACING, TARGET_GROUPS

SIZES = PhantomSizes(source=6, source_test=2, target_pool=9, target_test=6)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_phantom_pair(tmp_path_factory.mktemp("phantom") / "nnUNet_raw", SIZES)


def _image(folder, identifier, channel):
    return sitk.ReadImage(folder / f"{identifier}_{CHANNELS.index(channel):04d}.nii.gz")


def test_the_pair_is_in_the_raw_format_of_nnunet(pair):
    assert (pair.source_name, pair.target_name) == ("Dataset901_PhantomSource", "Dataset902_PhantomTarget")
    for folder, n in ((pair.source_folder, 6), (pair.target_folder, 9)):
        dataset = RawDataset(folder)
        assert dataset.problems == {}
        assert len(dataset.labelled) == n == json.loads((folder / "dataset.json").read_text())["numTraining"]
        assert dataset.channel_names == list(CHANNELS)
    assert len(list((pair.target_folder / "imagesTs").iterdir())) == 6 * len(CHANNELS)
    assert len(list((pair.target_folder / "labelsTs").iterdir())) == 6


def test_images_and_label_of_a_case_share_spacing_origin_and_direction(pair):
    label = sitk.ReadImage(pair.target_folder / "labelsTr" / "target_001.nii.gz")
    assert label.GetSpacing() == pytest.approx(SPACING[::-1])
    assert label.GetSize() == SHAPE[::-1]
    for channel in CHANNELS:
        image = _image(pair.target_folder / "imagesTr", "target_001", channel)
        assert image.GetSpacing() == pytest.approx(label.GetSpacing())
        assert image.GetOrigin() == pytest.approx(label.GetOrigin())
        assert image.GetDirection() == pytest.approx(label.GetDirection())
    middle = label.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in label.GetSize()])
    assert middle == pytest.approx((0, 0, 0))


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others(pair, tmp_path):
    again = write_phantom_pair(tmp_path / "again", SIZES)
    other = write_phantom_pair(tmp_path / "other", SIZES, seed=1)
    pd.testing.assert_frame_equal(pair.target_truth, again.target_truth)

    def voxels(one):
        return sitk.GetArrayFromImage(_image(one.target_folder / "imagesTr", "target_003", "FLAIR"))

    np.testing.assert_array_equal(voxels(pair), voxels(again))
    assert not np.array_equal(voxels(pair), voxels(other))


def test_the_truth_table_is_what_one_measures_in_the_written_images(pair):
    truth = pd.read_csv(pair.source_folder / TRUTH_FILE, index_col="identifier")
    for identifier, row in truth.iterrows():
        suffix = "Tr" if row["split"] == "train" else "Ts"
        label = sitk.GetArrayFromImage(sitk.ReadImage(pair.source_folder / f"labels{suffix}" / f"{identifier}.nii.gz"))
        assert (label == 1).sum() == row["oedema_voxels"]
        assert (label == 2).sum() == row["core_voxels"]
        assert row["lesion_mm3"] == pytest.approx((label > 0).sum() * np.prod(SPACING))
        # a cruder measure than the table's: distance of the oedema's mean from what lies around, in its spread
        measured = {}
        for channel in CHANNELS:
            image = sitk.GetArrayFromImage(_image(pair.source_folder / f"images{suffix}", identifier, channel)).astype(
                float
            )
            around = binary_dilation(label > 0, iterations=4) & (label == 0)
            parts = [image[label == 1], image[(label == 2) & (image > image[around].mean())]]
            measured[channel] = max(abs(p.mean() - image[around].mean()) for p in parts if p.size) / image[around].std()
        if row["pattern"] != "all":
            assert row["dominant_channel"] == row["pattern"] == max(measured, key=measured.get)


def test_pool_and_test_cases_hold_every_group_of_the_target_in_its_share(pair):
    for _, cases in pair.target_truth.groupby("split"):
        counts = cases["group"].value_counts()
        for group, share in TARGET_GROUPS.items():
            assert abs(counts[group] - share * len(cases)) <= 1
    assert set(pair.source_truth["group"]) == {"source"}


def test_an_existing_data_set_is_never_overwritten(pair):
    before = sorted(pair.target_folder.rglob("*"))
    with pytest.raises(FileExistsError, match="Dataset901"):
        write_phantom_pair(pair.source_folder.parent, SIZES)
    assert sorted(pair.target_folder.rglob("*")) == before
