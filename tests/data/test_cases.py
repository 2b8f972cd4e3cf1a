import json
import os
import zipfile

import numpy as np
import pytest
import tiny_dataset as tiny
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy

from nnunet_active.data.cases import CaseStore, label_state
from nnunet_active.data.plans import read_plans
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.util.errors import BadCase, BadCaseIdentifier, MissingInput

IMAGE = np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype(np.float32)
SEG = np.ones((1, 4, 9, 8), np.int16)
PROPERTIES = {"spacing": [3.0, 1.0, 0.5]}


@pytest.fixture
def store(tmp_path):
    """``lab`` in the stock folder, ``pool.1`` (a dot in its name) in the pool folder."""
    store = CaseStore(tmp_path, tiny.make_plans(), "3d_fullres")
    for folder, case in ((store.folder, "lab"), (store.pool_folder, "pool.1")):
        folder.mkdir()
        save(
            nnUNetDatasetBlosc2,
            folder,
            case,
            chunks=IMAGE.shape,
            blocks=IMAGE.shape,
            chunks_seg=SEG.shape,
            blocks_seg=SEG.shape,
        )
    (store.pool_folder / "pool.1_seg.b2nd").unlink()
    return store


def save(dataset_class, folder, case, properties=None, **kwargs):
    dataset_class.save_case(IMAGE, SEG, properties or PROPERTIES, str(folder / case), **kwargs)


def test_labelled_and_pool_cases_are_listed_apart(store):
    assert store.labelled_identifiers() == ["lab"]
    assert store.pool_identifiers() == ["pool.1"]
    assert store.identifiers() == ["lab", "pool.1"]


def test_folders_are_named_after_the_data_identifier(store, tmp_path):
    assert store.folder == tmp_path / "nnUNetActivePlans_3d_fullres"
    assert store.pool_folder == tmp_path / "nnUNetActivePlans_3d_fullres_pool"


def test_a_store_without_folders_is_empty(tmp_path):
    store = CaseStore(tmp_path / "nothing", tiny.make_plans(), "2d")
    assert store.identifiers() == store.labelled_identifiers() == store.pool_identifiers() == []


@pytest.mark.parametrize("absent", ["lab.pkl", "lab_seg.b2nd", "lab.b2nd"])
def test_a_case_that_is_not_whole_is_not_listed(store, absent):
    (store.folder / absent).unlink()
    assert store.labelled_identifiers() == []
    with pytest.raises(MissingInput, match="Case lab is neither in"):
        store.load_image("lab")


@pytest.mark.parametrize("name", ["lab.pkl", "lab_seg.b2nd", "lab.b2nd"])
def test_a_folder_in_the_place_of_a_file_is_no_part_of_a_case(store, name):
    (store.folder / name).unlink()
    (store.folder / name).mkdir()
    assert store.labelled_identifiers() == [] and store.identifiers() == ["pool.1"]


def test_a_case_in_both_folders_counts_as_labelled_only(store):
    for ending in (".b2nd", ".pkl"):
        (store.pool_folder / f"pool.1{ending}").rename(store.pool_folder / f"lab{ending}")
    assert store.identifiers() == ["lab"] and store.pool_identifiers() == []


@pytest.mark.parametrize("case", ["lab", "pool.1"])
def test_images_come_back_as_they_were_stored(store, case):
    image = store.load_image(case)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, IMAGE)


def test_the_label_is_never_opened_to_load_an_image(store):
    (store.folder / "lab_seg.b2nd").write_bytes(b"poison")
    np.testing.assert_array_equal(store.load_image("lab"), IMAGE)
    np.testing.assert_array_equal(store.open_image("lab")[:, 1:3, 2:4], IMAGE[:, 1:3, 2:4])
    with pytest.raises(Exception):  # noqa: B017 - whatever blosc2 raises
        nnUNetDatasetBlosc2(str(store.folder)).load_case("lab")


def test_the_older_npz_format_is_read_without_its_label(store):
    for file in store.folder.iterdir():
        file.unlink()
    save(nnUNetDatasetNumpy, store.folder, "old")
    poison_member(store.folder / "old.npz", "seg.npy")
    assert store.labelled_identifiers() == ["old"]
    np.testing.assert_array_equal(store.load_image("old"), IMAGE)
    np.testing.assert_array_equal(store.open_image("old")[:, 1], IMAGE[:, 1])
    with pytest.raises(ValueError), np.load(store.folder / "old.npz") as archive:
        archive["seg"]


def poison_member(file, name):
    with zipfile.ZipFile(file) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[name] = b"\x93NUMPY poison"
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_an_unpacked_npy_file_of_the_older_format_is_preferred_as_in_nnunet(store):
    save(nnUNetDatasetNumpy, store.folder, "old")
    np.save(store.folder / "old.npy", IMAGE + 1)
    np.testing.assert_array_equal(store.load_image("old"), IMAGE + 1)
    np.testing.assert_array_equal(store.open_image("old")[:, 1], IMAGE[:, 1] + 1)


def test_a_damaged_stored_image_is_named_with_what_to_do(store):
    content = (store.folder / "lab.b2nd").read_bytes()
    (store.folder / "lab.b2nd").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadCase, match=r"case lab .* cannot be read .*preprocess again"):
        store.load_image("lab")


@pytest.mark.parametrize("bad", ["../lab", "a/b", ".x", ""])
def test_an_identifier_that_leads_outside_is_refused(store, bad):
    with pytest.raises(BadCaseIdentifier):
        store.load_image(bad)


def test_the_spacing_of_a_3d_configuration_is_the_plans(store):
    assert store.spacing("lab") == (3.0, 1.25, 1.25)


@pytest.mark.parametrize(("transpose", "slices"), [([0, 1, 2], 3.0), ([2, 0, 1], 0.5)])
def test_the_spacing_of_a_2d_configuration_begins_with_the_cases_own_slices(tmp_path, transpose, slices):
    store = CaseStore(tmp_path, {**tiny.make_plans(), "transpose_forward": transpose}, "2d")
    store.folder.mkdir()
    save(nnUNetDatasetNumpy, store.folder, "c")
    assert store.spacing("c") == (slices, 1.25, 1.25)


@pytest.mark.parametrize(
    "spacing", [(999, 1, 1), (999 * 0.7, 0.7, 0.5)]
)  # NaturalImage2DIO's, and SimpleITKIO's of a 2-D file
def test_a_two_dimensional_image_is_not_taken_for_a_slab_of_999_millimetres(tmp_path, spacing):
    store = CaseStore(tmp_path, tiny.make_plans(), "2d")
    store.folder.mkdir()
    save(nnUNetDatasetNumpy, store.folder, "c", {"spacing": list(spacing)})
    assert store.spacing("c") == (1.0, 1.25, 1.25)


def test_a_configuration_that_inherits_its_spacing_is_resolved(tmp_path):
    plans = tiny.make_plans()
    plans["configurations"]["3d_other"] = {"inherits_from": "3d_fullres", "data_identifier": "other"}
    store = CaseStore(tmp_path, plans, "3d_other")
    store.pool_folder.mkdir()
    save(nnUNetDatasetNumpy, store.pool_folder, "c")
    assert store.folder.name == "other" and store.spacing("c") == (3.0, 1.25, 1.25)


def test_the_fingerprint_depends_on_voxels_and_shape_and_not_on_where_they_lie(store):
    fingerprint = store.image_fingerprint("lab")
    assert len(fingerprint) == 32 and fingerprint == store.image_fingerprint("pool.1")
    for name, image in (("changed", IMAGE + np.eye(9, 8)), ("turned", IMAGE.reshape(2, 9, 4, 8))):
        nnUNetDatasetNumpy.save_case(image.astype(np.float32), SEG, PROPERTIES, str(store.pool_folder / name))
        assert store.image_fingerprint(name) != fingerprint


def test_properties_are_nnunets_own(store):
    write_pickle({**PROPERTIES, "class_locations": {1: []}}, str(store.folder / "lab.pkl"))
    assert store.properties("lab") == load_pickle(str(store.folder / "lab.pkl"))


def test_a_configuration_that_the_plans_do_not_have_is_named_with_those_there_are(tmp_path):
    with pytest.raises(MissingInput, match="no configuration 3d_lowres; they have 3d_fullres, 2d"):
        CaseStore(tmp_path, tiny.make_plans(), "3d_lowres")


def test_plans_cannot_point_outside_the_data_set(tmp_path):
    plans = json.loads(json.dumps(tiny.make_plans()).replace("nnUNetActivePlans_2d", "../../elsewhere"))
    with pytest.raises(MissingInput, match="elsewhere"):
        CaseStore(tmp_path, plans, "2d")


def test_plans_that_were_moved_here_from_a_data_set_with_other_channels_are_named(nnunet_folders):
    tiny.make_raw(nnunet_folders / "nnUNet_raw")
    plans = tiny.make_plans()
    for configuration in plans["configurations"].values():
        configuration["normalization_schemes"] = ["ZScoreNormalization"]
    store = CaseStore(nnunet_folders / "nnUNet_preprocessed" / tiny.NAME, plans, "3d_fullres")
    raw = RawDataset(nnunet_folders / "nnUNet_raw" / tiny.NAME)
    with pytest.raises(MissingInput, match=r"normalise 1 channel.* has 2 \(T1, FLAIR\).*nnunet_active plan -d"):
        preprocess_dataset(raw, store, raw.dataset_json, 1, progress=False)
    assert not (nnunet_folders / "nnUNet_preprocessed" / tiny.NAME).exists()


def test_plans_that_call_themselves_otherwise_than_their_file_are_refused_with_both_ways_out(nnunet_folders):
    folder = nnunet_folders / "nnUNet_preprocessed" / tiny.NAME
    folder.mkdir()
    plans = {**tiny.make_plans(), "plans_name": "nnUNetPlans"}
    (folder / "myPlans.json").write_text(json.dumps(plans))
    with pytest.raises(MissingInput, match=r"calls itself nnUNetPlans .*\"plans_name\": \"myPlans\".*-p nnUNetPlans"):
        read_plans(tiny.NAME, "myPlans")
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    assert read_plans(tiny.NAME, "nnUNetPlans") == plans


def test_what_tells_a_changed_label_is_the_file_that_nnunet_reads_it_from(tmp_path):
    assert label_state(tmp_path, "a.b") is None
    for ending in (".npz", "_seg.npy", "_seg.b2nd"):  # each goes before the ones of before
        (tmp_path / f"a.b{ending}").write_bytes(ending.encode())
        os.utime(tmp_path / f"a.b{ending}", ns=(5, 7))
        assert label_state(tmp_path, "a.b") == (len(ending), 7)
    for other in (".pkl", ".b2nd", ".npz"):
        (tmp_path / f"a.b{other}").write_bytes(b"changed")
    assert label_state(tmp_path, "a.b") == (len("_seg.b2nd"), 7)
