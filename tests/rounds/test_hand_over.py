from __future__ import annotations

import json

import pandas as pd
import pytest
import SimpleITK as sitk
import tiny_handoff
import torch
from tiny_rounds import mark_drawn, request, start
from tiny_target import NAME

from nnunet_active.annotation.records import voxel_digest
from nnunet_active.campaign.campaign_start import set_aside
from nnunet_active.campaign.status import campaign_status
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.hand_over import hand_over, is_handed_over, waiting_rounds
from nnunet_active.rounds.handoff_place import default_folder
from nnunet_active.rounds.labels_at_hand import returned_labels
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace


def predict(image):
    """Oedema wherever the first channel is bright."""
    logits = torch.zeros((3, *image.shape[1:]))
    logits[1] = torch.from_numpy(image[0]) * 4 - 2
    return logits


def run(target, campaign, folder=None, predict=predict):
    with campaign.lock():
        return hand_over(Workspace.of(campaign), predict, folder, log=silent)


def test_each_waiting_round_has_its_folder_beside_the_scans(target):
    campaign = start(budget=3)
    request(campaign, "case_1", "case_2")
    request(campaign, "case_3")
    with campaign.lock():
        campaign.mark_labelled(["case_2"])
    assert [cases for _, cases in waiting_rounds(campaign)] == [("case_1",), ("case_3",)]
    assert not is_handed_over(campaign)
    one, two = run(target, campaign)
    assert (one.cases, two.cases) == (("case_1",), ("case_3",)) and is_handed_over(campaign)
    assert (
        one.folder
        == default_folder(campaign, RawDataset(target.raw), 1)
        == target.raw / "annotate" / "fold_0_round_001"
    )
    assert (campaign.predictions_folder(2) / "case_3.nii.gz").is_file()


def test_what_the_annotator_needs_to_know_is_in_the_worklist(target):
    campaign = start()
    request(campaign, "case_2", "case_1")
    (one,) = run(target, campaign)
    text = (one.folder / "worklist.csv").read_text()
    assert text.splitlines()[1].startswith("1,case_2") and "FLAIR" in text
    entry = json.loads((one.folder / "handoff.json").read_text())
    assert entry["round"] == 1 and list(entry["cases"]) == ["case_2", "case_1"]


@pytest.mark.parametrize("known", [0.25, None])
def test_of_a_draw_the_worklist_shows_the_probability_and_no_utility(target, known):
    campaign = start()
    mark_drawn(request(campaign, "case_2", "case_1"), known)
    (handed,) = run(target, campaign)
    rows = pd.read_csv(handed.folder / "worklist.csv")
    assert "utility" not in rows and "mean_entropy" in rows
    assert "2 cases, in the order in which they were drawn" in (handed.folder / "README.txt").read_text()
    assert rows.get("probability", pd.Series()).tolist() == ([0.25, 0.25] if known else [])


def test_a_record_that_says_little_of_its_round_is_handed_over_with_the_first_channel_to_open(target):
    campaign = start()
    file = request(campaign, "case_2").folder / "selection.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: content[key] for key in ("number", "epoch", "requested", "made_by")}))
    (one,) = run(target, campaign)
    row = (one.folder / "worklist.csv").read_text().splitlines()[1]
    assert row.startswith("1,case_2") and "T1" in row and "FLAIR" not in row
    assert [case["open_first"] for case in campaign_status(campaign)["cases"]] == [""]


def test_a_name_that_two_channels_have_is_made_out_by_the_number_that_the_round_noted(target):
    for file in (target.raw / "dataset.json", target.preprocessed / "dataset.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "channel_names": {"0": "MR", "1": "CT", "2": "MR"}}))
    campaign = start()
    file = request(campaign, "case_2").folder / "selection.json"
    election = {"channel": 2, "name": "MR", "dice": [0.1, 0.2, 0.8], "decided": True}
    file.write_text(json.dumps({**json.loads(file.read_text()), "dominant_modality": {"case_2": election}}))
    (one,) = run(target, campaign)
    assert json.loads((one.folder / "handoff.json").read_text())["cases"]["case_2"]["open_first"] == "MR 0002"


def test_a_second_time_nothing_is_predicted_and_an_edited_label_stays(target):
    campaign = start()
    request(campaign, "case_1")
    (one,) = run(target, campaign)
    edited = tiny_handoff.edit(one.folder, "case_1").read_bytes()

    def never(image):
        raise AssertionError("predicted again")

    run(target, campaign, predict=never)
    assert (one.folder / "case_1" / "case_1.nii.gz").read_bytes() == edited


def test_another_folder_is_refused_while_somebodys_work_is_in_the_first(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    (one,) = run(target, campaign)
    (moved,) = run(target, campaign, tmp_path / "second")
    assert moved.folder == tmp_path / "second" == campaign.handoff_folder(1)
    tiny_handoff.edit(moved.folder, "case_1")
    with pytest.raises(CampaignError, match="holds finished labels"):
        run(target, campaign, one.folder)


def test_the_hand_off_folder_of_an_earlier_campaign_is_set_aside_and_not_served_again(target):
    campaign = start()
    request(campaign, "case_1")
    (old,) = run(target, campaign)
    before = voxel_digest(sitk.GetArrayFromImage(sitk.ReadImage(str(old.folder / "case_1" / "case_1.nii.gz"))))
    set_aside(campaign.folder, silent)  # as init --restart does
    again = start()
    request(again, "case_1")
    said: list[str] = []
    with again.lock():
        (new,) = hand_over(Workspace.of(again), lambda image: -predict(image), log=said.append)
    after = voxel_digest(sitk.GetArrayFromImage(sitk.ReadImage(str(new.folder / "case_1" / "case_1.nii.gz"))))
    assert new.folder == old.folder and after != before
    (kept,) = old.folder.parent.glob("fold_0_round_001_until_*")
    assert (kept / "case_1" / "case_1.nii.gz").is_file() and any(
        f"ingest -d 902 --from {kept}" in line for line in said
    )
    run(target, again)  # its own folder stays
    assert len(list(old.folder.parent.iterdir())) == 2


def test_a_case_whose_image_was_replaced_by_another_of_its_size_is_not_handed_over_as_it_was(target):
    campaign = start()
    request(campaign, "case_1")
    (one,) = run(target, campaign)
    (file, *_) = sorted(target.raw.glob("imagesTr/case_1_*"))
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(image + 1, str(file))
    (again,) = run(target, campaign)
    assert "its image was replaced since it was handed over" in again.set_aside["case_1"] and again.cases == ()
    said = returned_labels(campaign, RawDataset(target.raw), target.store)["case_1"]
    assert not said.ready and f"move {one.folder / 'case_1'} away to have it written anew" in said.sentence
    report = ingest(NAME, accept_unchanged=["case_1"], log=silent)
    assert "cannot be accepted as predicted: its image was replaced" in report.refused["case_1"] and not report.taken
    (one.folder / "case_1").rename(one.folder.parent / "away")
    (again,) = run(target, campaign)
    assert again.cases == ("case_1",) and (one.folder / "case_1" / "case_1.nii.gz").is_file()
    (again,) = run(target, campaign)
    assert again.cases == ("case_1",) and not again.set_aside


def test_a_label_that_was_drawn_before_its_image_was_replaced_is_taken_with_a_warning(target):
    campaign = start()
    request(campaign, "case_1")
    (one,) = run(target, campaign)
    file = one.folder / "case_1" / "case_1.nii.gz"
    label = sitk.ReadImage(str(file))
    label[0, 0, 0] = 1
    sitk.WriteImage(label, str(file))
    image = sorted(target.raw.glob("imagesTr/case_1_*"))[0]
    sitk.WriteImage(sitk.ReadImage(str(image)) + 1, str(image))
    assert run(target, campaign)[0].cases == ("case_1",)
    report = ingest(NAME, log=silent)
    assert list(report.taken) == ["case_1"]
    assert any(
        "replaced since it was handed over; see that the label fits it" in one for one in report.warnings["case_1"]
    )


def test_a_case_whose_image_changed_its_size_is_not_handed_over_as_it_was(target):
    campaign = start()
    request(campaign, "case_1")
    (one,) = run(target, campaign)
    for file in target.raw.glob("imagesTr/case_1_*"):
        image = sitk.ReadImage(str(file))
        sitk.WriteImage(image[:, :, :-1], str(file))
    (again,) = run(target, campaign)
    assert "its image has changed since it was handed over" in again.set_aside["case_1"] and again.folder == one.folder
    assert again.cases == ()
    said = returned_labels(campaign, RawDataset(target.raw), target.store)["case_1"]
    assert not said.ready and "another size than when it was handed over" in said.sentence
