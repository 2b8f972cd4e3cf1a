from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny_nnssl
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_dataset import write_image
from tiny_rounds import make_once, start
from tiny_target import make_target, truth

from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.cli.main import main
from nnunet_active.data.cases import open_store
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.plans import read_plans
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.source_model import read_source_model, source_folder
from nnunet_active.util.lock import hold

DERIVED = "Dataset905_TinyTarget_PseudoLabelled"
EVERYONE = ["--confident-fraction", "1", "--nearer-fraction", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("made"), labelled=2, unlabelled=3)


def pseudo(*flags: str) -> int:
    return main(["pseudo", "-d", "902", "-device", "cpu", *flags])


def test_the_reliable_set_and_a_table_of_all_cases_are_written(target, capsys):
    campaign = start()
    assert pseudo() == 0
    out = capsys.readouterr().out
    folder = campaign.folder / "pseudo_between_rounds" / "round_000"
    assert f"All reliabilities: {folder / 'reliability.csv'}" in out
    assert "WARNING: This is the source network" in out
    table = pd.read_csv(folder / "reliability.csv", index_col="case")
    assert sorted(table.index) == ["case_2", "case_3", "case_4"]
    kept = sorted(table.index[table["reliable"]])
    assert sorted(file.name for file in folder.glob("*_seg.b2nd")) == [f"{case}_seg.b2nd" for case in kept]
    assert kept


def test_json_is_one_object_and_the_campaigns_settings_count_unless_something_else_is_said(target, capsys):
    start(pseudo_labels={"confident_fraction": 1.0, "nearer_fraction": 1.0, "share": 0.3})
    assert pseudo("--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["reliable"] == ["case_2", "case_3", "case_4"]
    assert content["settings"]["share"] == 0.3
    assert content["cases"]["case_2"]["reason"] == "confident and near"
    assert pseudo("--json", "--confident-fraction", "0") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["reliable"] == [] and content["derived"] is None


def test_a_derived_data_set_is_one_that_stock_nnunet_reads_and_says_which_labels_are_predictions(target, capsys):
    start()
    assert pseudo("--derived-dataset", "905", *EVERYONE) == 0
    assert "nnUNetv2_plan_and_preprocess -d 905" in capsys.readouterr().out
    folder = target.raw.parent / DERIVED
    description = json.loads((folder / "dataset.json").read_text())
    assert description["numTraining"] == 5
    assert description["pseudo_labels"]["pseudo_labelled"] == ["case_2", "case_3", "case_4"]
    assert description["pseudo_labels"]["labelled_by_people"] == ["case_0", "case_1"]
    raw = RawDataset(folder)
    assert raw.labelled == sorted(raw.cases) and not raw.problems
    for case in raw.cases.values():
        for image in case.images:
            assert image.is_symlink() and image.samefile(target.raw / "imagesTr" / image.name)
    person = folder / "labelsTr" / "case_0.nii.gz"
    assert person.read_bytes() == (target.raw / "labelsTr" / "case_0.nii.gz").read_bytes()
    for name in ("case_2", "case_3", "case_4"):
        label, image = (
            sitk.ReadImage(str(file))
            for file in (folder / "labelsTr" / f"{name}.nii.gz", target.raw / "imagesTr" / f"{name}_0000.nii.gz")
        )
        assert label.GetSize() == image.GetSize() and label.GetSpacing() == image.GetSpacing()
        assert label.GetOrigin() == image.GetOrigin()
    splits = json.loads((target.preprocessed.parent / DERIVED / "splits_final.json").read_text())
    assert splits == json.loads((folder / "splits_final.json").read_text())
    assert [part["val"] for part in splits] == [["case_0"], ["case_1"]]
    assert all(set(part["train"]) >= {"case_2", "case_3", "case_4"} for part in splits)
    assert not list(target.raw.joinpath("labelsTr").glob("case_2*"))
    assert not (target.preprocessed / "gt_segmentations" / "case_2.nii.gz").exists()


def test_a_pseudo_label_is_what_nnunets_own_prediction_writes(target, tmp_path):
    start()
    assert pseudo("--derived-dataset", DERIVED, "--copy", *EVERYONE) == 0
    predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, allow_tqdm=False)
    predictor.device = torch.device("cpu")
    predictor.initialize_from_trained_model_folder(
        str(source_folder(target.preprocessed, "nnUNetActivePlans", "3d_fullres")), ("0",)
    )
    images = [[str(target.raw / "imagesTr" / f"case_3_{channel:04d}.nii.gz") for channel in range(3)]]
    predictor.predict_from_files_sequential(images, [str(tmp_path / "stock")], False, True)
    stock, mine = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        for file in (tmp_path / "stock.nii.gz", target.raw.parent / DERIVED / "labelsTr" / "case_3.nii.gz")
    )
    np.testing.assert_array_equal(mine, stock)
    assert not (target.raw.parent / DERIVED / "imagesTr" / "case_3_0000.nii.gz").is_symlink()


def test_it_replaces_the_one_it_made_before_and_never_another_data_set(target, capsys):
    start()
    assert pseudo("--derived-dataset", "905", *EVERYONE) == 0
    leftover = target.raw.parent / DERIVED / "labelsTr" / "old.nii.gz"
    leftover.write_bytes(b"of an earlier round")
    assert pseudo("--derived-dataset", "905", *EVERYONE) == 0
    assert not leftover.exists()
    assert pseudo("--derived-dataset", target.raw.name, *EVERYONE) == 2
    assert "was not derived from" in capsys.readouterr().err
    assert pseudo("--derived-dataset", "902", *EVERYONE) == 2
    assert "is taken by Dataset902_TinyTarget" in capsys.readouterr().err
    assert (target.raw / "dataset.json").is_file()
    assert sorted(folder.name for folder in target.raw.parent.iterdir()) == [target.raw.name, DERIVED]


def test_a_network_without_a_trained_head_gives_no_labels(target, tmp_path, capsys):
    start()
    encoder = read_source_model(tiny_nnssl.write_checkpoint(tmp_path / "x.pth"))
    save_source_model(encoder, source_folder(target.preprocessed, "nnUNetActivePlans", "3d_fullres"))
    assert pseudo() == 2
    assert "not trained on the target's classes" in capsys.readouterr().err


def test_how_images_are_held_is_said_of_a_data_set_alone(target, capsys):
    assert main(["pseudo", "-d", "902", "-device", "cpu", "--copy"]) == 2
    assert "--copy says how --derived-dataset holds its images" in capsys.readouterr().err


def test_without_a_campaign_it_says_so(target, capsys):
    assert pseudo() == 2
    assert "There is no campaign" in capsys.readouterr().err


def test_the_store_and_the_plans_of_the_target_stay_as_they_are(target):
    start()
    before = sorted(file for file in target.preprocessed.rglob("*") if "active" not in file.parts)
    assert pseudo("--derived-dataset", "905", *EVERYONE) == 0
    assert sorted(file for file in target.preprocessed.rglob("*") if "active" not in file.parts) == before
    store = open_store(target.raw.name, "nnUNetActivePlans", "3d_fullres")
    assert store.labelled_identifiers() == ["case_0", "case_1"]
    assert read_plans(target.raw.name, "nnUNetActivePlans")["plans_name"] == "nnUNetActivePlans"


def test_a_data_set_of_somebody_elses_is_refused_before_anything_is_predicted(target, capsys):
    campaign = start()
    (target.raw.parent / DERIVED / "imagesTr").mkdir(parents=True)
    assert pseudo("--derived-dataset", "905", *EVERYONE) == 2
    assert "exists and was not derived from" in capsys.readouterr().err
    assert not (campaign.folder / "pseudo_between_rounds").exists()


def voxels(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def ask_for_slices(campaign, requests) -> None:
    picks = list(requests)
    table = pd.DataFrame({"x": 1.0}, index=picks)
    utilities = pd.DataFrame(np.ones((1, len(picks))), columns=picks)
    with campaign.lock():
        campaign.append_round(RoundContent(picks, table, utilities, table, slices=requests), made_by="select")
        campaign.mark_labelled(picks)


def test_predictions_fill_what_nobody_labelled_and_withheld_slices_stay_withheld(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=4)
    declare_ignore_label(target.raw, target.preprocessed)
    campaign = start("all", unit="slice", budget=6, query_size=6)
    requests = {"case_0": SliceRequest("z", (5, 9)), "case_1": SliceRequest("z", (7,))}
    ask_for_slices(campaign, requests)
    half = ["-f", "all", "--confident-fraction", "0.5", "--nearer-fraction", "1"]
    assert pseudo("--derived-dataset", "905", "--json", *half) == 0
    content = json.loads(capsys.readouterr().out)
    (filled,) = content["filled"]
    left = "case_1" if filled == "case_0" else "case_0"
    assert sorted(content["cases"]) == [f"case_{i}" for i in range(4)] and filled not in content["reliable"]
    assert content["cases"][left]["partly_labelled"] and not content["cases"]["case_3"]["partly_labelled"]
    derived = target.raw.parent / DERIVED
    kept = voxels(derived / "labelsTr" / f"{left}.nii.gz")
    np.testing.assert_array_equal(kept, keep_slices(truth(int(left[-1])), 0, requests[left].slices, 3))
    label, drawn = voxels(derived / "labelsTr" / f"{filled}.nii.gz"), list(requests[filled].slices)
    np.testing.assert_array_equal(label[drawn], truth(int(filled[-1]))[drawn])
    assert not (label == 3).any()
    # nothing of the withheld rest got in: with another truth there the label is the same
    poisoned = np.full_like(label, 2)
    poisoned[drawn] = label[drawn]
    write_image(target.raw / "labelsTr" / f"{filled}.nii.gz", poisoned, spacing=(1.5, 1.5, 1.5))
    target.preprocess()
    assert pseudo("--derived-dataset", "905", *half) == 0
    np.testing.assert_array_equal(voxels(derived / "labelsTr" / f"{filled}.nii.gz"), label)
    facts = json.loads((derived / "dataset.json").read_text())["pseudo_labels"]
    assert facts["completed_by_predictions"] == [filled] and facts["labelled_by_people"] == [left]
    splits = json.loads((derived / "splits_final.json").read_text())
    assert all(filled not in fold["val"] and filled in fold["train"] for fold in splits)


def test_two_commands_do_not_write_reliable_sets_at_once(target, capsys):
    campaign = start()
    place = campaign.folder / "pseudo_between_rounds"
    with hold(place):
        assert pseudo() == 2
    assert f"{place} is in use by" in capsys.readouterr().err and not (place / "round_000").exists()
    assert pseudo() == 0 and (place / "round_000" / "reliability.csv").is_file()
