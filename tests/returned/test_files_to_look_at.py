from __future__ import annotations

import shutil

from tiny_handoff import hand_out
from tiny_rounds import request, start

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.returned.files_to_look_at import files_to_look_at
from nnunet_active.returned.ingest_report import IngestReport


def look(target, campaign, *folders):
    report = IngestReport()
    found = files_to_look_at(campaign, RawDataset(target.raw), folders, report)
    return {case: [file.name for file in files] for case, files in found.items()}, report


def test_files_of_the_hand_off_folders_and_of_labelstr_belong_to_their_cases_each_once(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    out = hand_out(target, campaign, tmp_path / "out")
    request(campaign, "case_2")
    hand_out(target, campaign, out / "round_002")  # below the first
    found, report = look(target, campaign)
    assert found == {case: [f"{case}.nii.gz"] for case in ("case_0", "case_1", "case_2")}
    assert not report.notes and not report.unknown


def test_a_folder_that_is_gone_is_named_while_its_cases_wait(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    shutil.rmtree(hand_out(target, campaign, tmp_path / "out"))
    found, report = look(target, campaign)
    assert list(found) == ["case_0"] and "round 1" in report.notes[0] and "--from" in report.notes[0]
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    assert not look(target, campaign)[1].notes


def test_only_in_folders_that_somebody_named_are_files_of_no_case_told_of(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    out = hand_out(target, campaign, tmp_path / "out")
    shutil.copy(out / "case_1" / "case_1.nii.gz", out / "case_9.nii.gz")
    assert not look(target, campaign)[1].unknown
    found, report = look(target, campaign, out)
    assert list(found) == ["case_1"] and report.unknown == [str(out / "case_9.nii.gz")]


def test_what_was_set_aside_in_a_folder_of_labelstr_is_no_label(target):
    campaign = start()
    request(campaign, "case_1")
    aside = target.raw / "labelsTr" / "rejected"
    aside.mkdir()
    for case in ("case_0", "case_1"):
        shutil.copy(target.raw / "labelsTr" / "case_0.nii.gz", aside / f"{case}.nii.gz")
    found, report = look(target, campaign)
    assert found == {"case_0": ["case_0.nii.gz"]} and not report.unknown
    assert look(target, campaign, aside)[0] == {case: [f"{case}.nii.gz"] for case in ("case_0", "case_1")}
