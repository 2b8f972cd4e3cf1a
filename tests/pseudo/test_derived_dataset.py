"""Names and folds of a data set of labels and pseudo-labels; the whole is tested with ``nnunet_active pseudo``."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tifffile
import torch
from full_disk import files_up_to
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from tiny_spaces import DIRECTIONS, SHAPE, add_case, make_store, see_bright, voxels, write_nifti

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_state import Roles
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.maps import to_file_order
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.patients import Patients
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.pseudo.derived_dataset import (
    _partly_labelled,
    derive_dataset,
    derived_name,
    folds_on_labels_of_people,
)
from nnunet_active.pseudo.pseudo_labels import TABLE, Predicting, ReliableSet
from nnunet_active.util.errors import ActiveError

PARTLY = {"background": 0, "oedema": 1, "core": 2, "ignore": 3}
CASES = st.sets(st.integers(0, 30).map("case_{:02d}".format), min_size=1)


def test_a_number_makes_a_name_from_the_targets(nnunet_folders):
    assert derived_name("7", "Dataset902_TinyTarget") == "Dataset007_TinyTarget_PseudoLabelled"


@pytest.mark.parametrize("wrong", ["Target", "Dataset1_x", "Dataset905_../x", "Dataset905"])
def test_names_that_nnunet_cannot_use_are_refused(nnunet_folders, wrong):
    with pytest.raises(ActiveError, match="neither a number nor a name"):
        derived_name(wrong, "Dataset902_TinyTarget")


@given(people=CASES, pseudo=CASES.map(lambda cases: {f"pseudo_{case}" for case in cases}), data=st.data())
def test_only_labels_of_people_validate_and_nobody_is_on_both_sides(people, pseudo, data):
    val = data.draw(st.sets(st.sampled_from(sorted(people)), max_size=len(people) - 1))
    folds = folds_on_labels_of_people(sorted(people), sorted(val), sorted(pseudo), Patients())
    for fold in folds:
        assert set(fold["train"]) | set(fold["val"]) == people | pseudo
        assert set(fold["val"]) <= people
        if len(people) > 1:
            assert not set(fold["train"]) & set(fold["val"])
    if val:
        assert [fold["val"] for fold in folds] == [sorted(val)]
    elif len(people) > 1:
        assert sorted(case for fold in folds for case in fold["val"]) == sorted(people)


@given(people=CASES, pseudo=CASES, data=st.data())
def test_no_patient_is_on_both_sides_of_a_fold(people, pseudo, data):
    patients = Patients(table={case: data.draw(st.sampled_from("pq"), label=case) for case in sorted(people | pseudo)})
    val = data.draw(st.sets(st.sampled_from(sorted(people)), max_size=len(people) - 1))
    folds = folds_on_labels_of_people(sorted(people), sorted(val), sorted(pseudo - people), patients)
    if not val and len(patients.cases_of(people)) < 2:
        assert len(folds) == 1  # nothing can be validated on without its patient in training
        return
    for fold in folds:
        assert not {*map(patients.of, fold["train"])} & {*map(patients.of, fold["val"])}
    validated = [case for fold in folds for case in fold["val"]]
    assert sorted(validated) == sorted(val or people)


class _SeesBright:
    """A network with its window."""

    logits = staticmethod(see_bright)


class _SeesAboveTheMean:
    """A network that finds a half of all voxels, scattered everywhere."""

    @staticmethod
    def logits(image: np.ndarray) -> torch.Tensor:
        z = torch.as_tensor(image[0])
        return torch.stack([-z, z, torch.full_like(z, -100)])


@pytest.mark.parametrize("copy_images", [False, True])
def test_3d_tiff_files_keep_the_spacing_that_lies_beside_them(nnunet_folders, copy_images):
    raw, spacing = nnunet_folders / "nnUNet_raw" / "Dataset902_Tiff", [3.3, 1.1, 0.78]
    store, description = make_store(nnunet_folders / "nnUNet_preprocessed" / raw.name, "Tiff3DIO", ".tif")
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(description))
    for case in ("a", "b"):
        tifffile.imwrite(raw / "imagesTr" / f"{case}_0000.tif", voxels())
        (raw / "imagesTr" / f"{case}.json").write_text(json.dumps({"spacing": spacing}))
    tifffile.imwrite(raw / "labelsTr" / "b.tif", (voxels() > 500).astype(np.uint8))
    (raw / "labelsTr" / "b.json").write_text(json.dumps({"spacing": spacing}))
    dataset = RawDataset(raw)
    assert preprocess_dataset(dataset, store, description, 1, False).done == ["a", "b"]
    made = ReliableSet(nnunet_folders, ("a",), pd.DataFrame(index=["a"]), {})
    (nnunet_folders / TABLE).write_text("case\na\n")
    place = Place.of(raw.name, "3d_fullres", "nnUNetActivePlans", "all")
    campaign = Campaign.create(place, Settings(oracle="folder"), Roles(["b"], [], []), "init", save=False)
    by = Predicting(_SeesBright(), store, description, log=pytest.fail)
    stale = nnunet_folders / "nnUNet_preprocessed" / "Dataset905_X"
    (stale / "gt_segmentations").mkdir(parents=True)
    for name in ("gt_segmentations/b.tif", "dataset_fingerprint.json"):  # of a set that was made before
        (stale / name).touch()
    folder = derive_dataset("Dataset905_X", made, campaign, dataset, by, copy_images)
    assert [file.name for file in stale.iterdir()] == ["splits_final.json"]
    for case in ("a", "b"):
        assert Tiff3DIO().read_images([str(folder / "imagesTr" / f"{case}_0000.tif")])[1]["spacing"] == spacing
        assert Tiff3DIO().read_seg(str(folder / "labelsTr" / f"{case}.tif"))[1]["spacing"] == spacing
        assert (folder / "imagesTr" / f"{case}.json").is_symlink() != copy_images


def test_a_labelled_case_whose_label_has_gone_is_named(nnunet_folders):
    raw = nnunet_folders / "nnUNet_raw" / "Dataset902_Gone"
    store, description = make_store(nnunet_folders / "nnUNet_preprocessed" / raw.name, "SimpleITKIO", ".nii.gz")
    for case in ("a", "b"):
        add_case(store, description, write_nifti(raw / "imagesTr" / f"{case}_0000.nii.gz", DIRECTIONS["oblique"]))
    (raw / "dataset.json").write_text(json.dumps(description))
    (nnunet_folders / TABLE).write_text("case\na\n")
    made = ReliableSet(nnunet_folders, ("a",), pd.DataFrame(index=["a"]), {})
    place = Place.of(raw.name, "3d_fullres", "nnUNetActivePlans", "all")
    campaign = Campaign.create(place, Settings(oracle="folder"), Roles(["b"], [], []), "init", save=False)
    said: list[str] = []
    by = Predicting(_SeesBright(), store, description, log=said.append)
    derive_dataset("Dataset905_X", made, campaign, RawDataset(raw), by)
    assert len(said) == 1 and "has no label of b any more" in said[0]


def test_no_half_of_a_label_is_left_where_a_full_disk_cuts_it_off(nnunet_folders):
    """The writers of nnU-Net would leave it and say nothing."""
    raw = nnunet_folders / "nnUNet_raw" / "Dataset902_Noise"
    store, description = make_store(nnunet_folders / "nnUNet_preprocessed" / raw.name, "SimpleITKIO", ".nii.gz")
    noise = np.random.default_rng(0).normal(100, 50, (40, 40, 40)).astype(np.float32)
    add_case(store, description, write_nifti(raw / "imagesTr" / "a_0000.nii.gz", DIRECTIONS["oblique"], array=noise))
    (raw / "dataset.json").write_text(json.dumps(description))
    (nnunet_folders / TABLE).write_text("case\na\n")
    made = ReliableSet(nnunet_folders, ("a",), pd.DataFrame(index=["a"]), {})
    place = Place.of(raw.name, "3d_fullres", "nnUNetActivePlans", "all")
    campaign = Campaign.create(place, Settings(oracle="folder"), Roles([], [], []), "init", save=False)
    dataset, by = RawDataset(raw), Predicting(_SeesAboveTheMean(), store, description)
    with files_up_to(5000), pytest.raises(OSError, match="File too large") as error:
        derive_dataset("Dataset905_X", made, campaign, dataset, by)
    assert error.value.filename.endswith("a.nii.gz") and not list(raw.parent.glob("*905*"))
    label = derive_dataset("Dataset905_X", made, campaign, dataset, by) / "labelsTr" / "a.nii.gz"
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(label))), noise > noise.mean())


def test_known_slices_are_those_of_the_image_though_the_labels_file_runs_the_other_way(tmp_path):
    """Readers that turn everything to the patient's axes accept such a label as it is."""
    store, description = make_store(tmp_path / "preprocessed", "NibabelIOWithReorient", ".nii.gz", labels=PARTLY)
    image = write_nifti(tmp_path / "images" / "c_0000.nii.gz", DIRECTIONS["flipped"])
    add_case(store, description, image)
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[1, 2, 3], label[7, 2, 3] = 1, 2
    drawn = sitk.GetImageFromArray(label)
    drawn.CopyInformation(sitk.ReadImage(str(image)))
    sitk.WriteImage(sitk.Flip(drawn, [True, False, True]), str(tmp_path / "drawn.nii.gz"))
    by = Predicting(None, store, description)  # nothing is predicted
    found = _partly_labelled("c", tmp_path / "drawn.nii.gz", by, SliceRequest("z", (7,)), False)
    found = to_file_order(found, store.properties("c"))
    np.testing.assert_array_equal(found, keep_slices(label, 0, [7], 3))
