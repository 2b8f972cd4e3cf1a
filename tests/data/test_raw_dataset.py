import json
import os
import shutil
import unicodedata

import pytest
import tiny_dataset as tiny
from hypothesis import given
from hypothesis import strategies as st

from nnunet_active.data.raw_dataset import RawDataset, check_case_identifier, read_pool_folders, remember_pool_folder
from nnunet_active.util.errors import BadCase, BadCaseIdentifier, MissingInput


@pytest.fixture
def raw(tmp_path):
    return tiny.make_raw(tmp_path / "raw")


def rewrite_json(raw, **changes):
    (raw / "dataset.json").write_text(json.dumps({**tiny.DATASET_JSON, **changes}))


@pytest.mark.parametrize(
    "good", ["a", "_x", "patient001_frame01", "TCGA_CS_4941-1.2", "Müller 3", "case_0001", "x=1+2"]
)
def test_an_ordinary_case_identifier_is_returned_as_it_is(good):
    assert check_case_identifier(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "-rf",
        "a\nb",
        "a\n",
        "a\0b",
        "a..b",
        "a*",
        "a:b",
        "a ",
        "a.",
        "a_seg",
        "x" * 201,
    ],
)
def test_an_identifier_that_could_leave_the_folder_or_break_a_file_name_is_refused(bad):
    with pytest.raises(BadCaseIdentifier, match="refused"):
        check_case_identifier(bad)


@given(st.text(max_size=30))
def test_no_accepted_identifier_ever_names_a_path_outside_its_folder(tmp_path_factory, text):
    try:
        identifier = check_case_identifier(text)
    except BadCaseIdentifier:
        return
    folder = tmp_path_factory.getbasetemp()
    assert (folder / f"{identifier}.b2nd").resolve().parent == folder.resolve()
    assert "\n" not in identifier and "\0" not in identifier and not identifier.startswith((".", "-", " "))


def test_images_labels_and_channels_are_found_in_order(raw):
    dataset = RawDataset(raw)
    assert dataset.name == tiny.NAME and dataset.file_ending == ".nii.gz"
    assert dataset.channel_names == ["T1", "FLAIR"]
    assert (dataset.labelled, dataset.unlabelled) == (["a", "b"], ["u"])
    assert [file.name for file in dataset.cases["a"].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert dataset.cases["a"].label == raw / "labelsTr" / "a.nii.gz" and dataset.cases["u"].label is None
    assert not dataset.problems and not dataset.warnings


def test_a_missing_channel_file_is_named_and_the_rest_goes_on(raw):
    (raw / "imagesTr" / "b_0001.nii.gz").unlink()
    dataset = RawDataset(raw)
    assert list(dataset.cases) == ["a", "u"]
    assert "FLAIR" in dataset.problems["b"] and "b_0001.nii.gz" in dataset.problems["b"]


def test_a_broken_link_counts_as_a_missing_channel_file(raw):
    (raw / "imagesTr" / "b_0000.nii.gz").unlink()
    (raw / "imagesTr" / "b_0000.nii.gz").symlink_to(raw / "gone.nii.gz")
    dataset = RawDataset(raw)
    assert "b" not in dataset.cases and "T1" in dataset.problems["b"]


def test_a_surplus_channel_file_is_named(raw):
    shutil.copy(raw / "imagesTr" / "a_0000.nii.gz", raw / "imagesTr" / "a_0002.nii.gz")
    dataset = RawDataset(raw)
    assert "a" not in dataset.cases and "a_0002.nii.gz" in dataset.problems["a"]


def test_a_label_without_an_image_is_named(raw):
    tiny.write_label(raw, "orphan")
    assert "has no image" in RawDataset(raw).problems["orphan"]


def test_an_image_without_a_channel_number_is_named(raw):
    shutil.copy(raw / "imagesTr" / "a_0000.nii.gz", raw / "imagesTr" / "scan.nii.gz")
    dataset = RawDataset(raw)
    assert "no channel number" in dataset.problems["scan.nii.gz"] and len(dataset.cases) == 3


@pytest.mark.parametrize("odd", [".hidden", "-x", "a\nb", "a;b", "a_seg"])
def test_an_odd_file_name_is_set_aside_and_the_rest_goes_on(raw, odd):
    tiny.write_images(raw / "imagesTr", odd)
    dataset = RawDataset(raw)
    assert list(dataset.cases) == ["a", "b", "u"]
    assert "refused" in dataset.problems[odd] and "\n" not in dataset.problems[odd]


def test_a_listed_identifier_that_leads_outside_is_set_aside(raw):
    entry = {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    rewrite_json(raw, dataset={"../../evil": entry, "a": entry})
    dataset = RawDataset(raw)
    assert "../../evil" in dataset.problems and "../../evil" not in dataset.cases
    assert "a" in dataset.cases


def test_an_explicit_listing_is_taken_with_its_paths_and_unlisted_images_are_the_pool(raw, tmp_path, monkeypatch):
    elsewhere = tmp_path / "archive"
    files = tiny.write_images(elsewhere, "scan77")
    monkeypatch.setenv("TINY_ARCHIVE", str(elsewhere))
    listing = {
        "a": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "z": {"images": ["$TINY_ARCHIVE/scan77_0000.nii.gz", str(files[1])], "label": "labelsTr/b.nii.gz"},
    }
    rewrite_json(raw, dataset=listing)
    dataset = RawDataset(raw)
    assert dataset.cases["z"].images == tuple(files) and dataset.cases["z"].label == raw / "labelsTr" / "b.nii.gz"
    assert dataset.unlabelled == ["u"]


def test_a_listed_label_that_is_not_there_is_a_warning_and_the_case_unlabelled(raw):
    images = ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"]
    rewrite_json(raw, dataset={"n": {"images": images, "label": "labelsTr/none.nii.gz"}})
    dataset = RawDataset(raw)
    assert "n" in dataset.unlabelled and "none.nii.gz" in dataset.warnings["n"]


def test_one_rgb_picture_may_hold_all_channels_but_one_scan_may_not(tmp_path):
    content = {**tiny.DATASET_JSON, "file_ending": ".png", "channel_names": {"0": "R", "1": "G", "2": "B"}}
    raw = tiny.make_raw(tmp_path, (), (), content)
    (raw / "imagesTr").mkdir()
    (raw / "imagesTr" / "photo_0000.png").write_bytes(b"")
    assert [f.name for f in RawDataset(raw).cases["photo"].images] == ["photo_0000.png"]


def test_pool_folders_add_unlabelled_cases_whose_labels_may_arrive(raw, tmp_path):
    pool = tmp_path / "pool"
    tiny.write_images(pool, "p1")
    tiny.write_images(pool, "p2")
    tiny.write_label(raw, "p2")
    dataset = RawDataset(raw, [pool, pool])
    assert dataset.unlabelled == ["p1", "u"] and dataset.labelled == ["a", "b", "p2"]
    assert not dataset.problems


def test_a_case_in_the_pool_folder_and_in_images_is_an_error_that_names_both(raw, tmp_path):
    (raw / "imagesTr" / "u_0001.nii.gz").unlink()  # even if the case there is unusable
    tiny.write_images(tmp_path / "pool", "u")
    with pytest.raises(BadCase, match=r"Case u .*pool.*imagesTr"):
        RawDataset(raw, [tmp_path / "pool"])


def test_an_absent_pool_folder_is_an_error_and_an_empty_one_a_warning(raw, tmp_path):
    with pytest.raises(MissingInput, match="nowhere"):
        RawDataset(raw, [tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    assert "holds no images" in RawDataset(raw, [tmp_path / "empty"]).warnings[str((tmp_path / "empty").resolve())]


def test_a_data_set_without_images_folder_or_with_an_unusable_json_says_so(raw):
    shutil.move(raw / "imagesTr", raw / "elsewhere")
    with pytest.raises(MissingInput, match="imagesTr"):
        RawDataset(raw)
    (raw / "dataset.json").write_text("{")
    with pytest.raises(MissingInput, match="not valid JSON"):
        RawDataset(raw)
    (raw / "dataset.json").write_text('{"labels": {"background": 0}, "file_ending": ".nii.gz"}')
    with pytest.raises(MissingInput, match="channel_names"):
        RawDataset(raw)
    (raw / "dataset.json").unlink()
    with pytest.raises(MissingInput, match=r"dataset\.json"):
        RawDataset(raw)


def test_pool_folders_are_remembered_once_and_absolute(tmp_path, monkeypatch):
    preprocessed = tmp_path / "preprocessed"
    (tmp_path / "pool").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_pool_folders(preprocessed) == []
    for folder in ("pool", tmp_path / "pool"):
        assert remember_pool_folder(preprocessed, folder) == [(tmp_path / "pool").resolve()]
    assert read_pool_folders(preprocessed) == [(tmp_path / "pool").resolve()]
    with pytest.raises(MissingInput, match="nowhere"):
        remember_pool_folder(preprocessed, tmp_path / "nowhere")
    (preprocessed / "active" / "pool_folders.json").write_text("{]")
    with pytest.raises(MissingInput, match=r"pool_folders\.json"):
        read_pool_folders(preprocessed)


def test_a_label_in_another_format_makes_its_case_a_labelled_one(raw):
    (raw / "labelsTr" / "u.mha").write_bytes(b"")  # not opened here
    dataset = RawDataset(raw)
    assert dataset.cases["u"].label == raw / "labelsTr" / "u.mha" and not dataset.problems


def test_a_pipe_among_the_images_is_named_and_not_read(raw):
    (raw / "imagesTr" / "b_0001.nii.gz").unlink()
    os.mkfifo(raw / "imagesTr" / "b_0001.nii.gz")
    dataset = RawDataset(raw)
    assert list(dataset.cases) == ["a", "u"] and "no regular file" in dataset.problems["b"]


def test_images_with_another_ending_are_counted_and_named(raw):
    for name in ("x_0000.nii", "x_0001.nii", "y_0000.NII.GZ"):
        (raw / "imagesTr" / name).write_bytes(b"")
    warning = RawDataset(raw).warnings[str(raw / "imagesTr")]
    assert "3 image file(s)" in warning and "x_0000.nii, x_0001.nii, y_0000.NII.GZ" in warning


def test_an_ending_that_no_image_has_is_a_mistake_in_dataset_json(raw):
    rewrite_json(raw, file_ending=".nrrd")
    with pytest.raises(
        MissingInput, match=r"No image in .*imagesTr ends in \.nrrd, .*6 file\(s\) end otherwise \(a_0000\.nii\.gz"
    ):
        RawDataset(raw)


def test_odd_channel_keys_are_said(raw):
    rewrite_json(raw, channel_names={"first": "T1", "second": "FLAIR"})
    dataset = RawDataset(raw)
    assert (
        dataset.channel_names == ["T1", "FLAIR"] and "_0000 is T1, _0001 is FLAIR" in dataset.warnings["dataset.json"]
    )


@pytest.mark.parametrize("entry", [None, [], {"images": 5}, {"images": [5, 6]}, {"images": ["a", "b"], "label": 5}])
def test_a_listing_that_names_no_files_is_a_problem_of_that_case(raw, entry):
    rewrite_json(raw, dataset={"odd": entry})
    dataset = RawDataset(raw)
    assert "no list of files" in dataset.problems["odd"] and list(dataset.cases) == ["a", "b", "u"]


def test_a_name_in_macos_spelling_is_refused_with_the_reason():
    with pytest.raises(BadCaseIdentifier, match="as macOS writes them"):
        check_case_identifier(unicodedata.normalize("NFD", "Zo\u00eb_7"))
