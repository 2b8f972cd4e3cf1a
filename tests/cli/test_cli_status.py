from __future__ import annotations

import json

import pytest
from tiny_campaign import begin
from tiny_rounds import copy_of, request, start

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.status import campaign_status, format_status
from nnunet_active.cli.main import main

NAME = "Dataset204_GliomaTarget"


@pytest.fixture
def campaign(nnunet_folders) -> Campaign:
    folder = nnunet_folders / "nnUNet_preprocessed" / NAME
    folder.mkdir()
    return begin(folder, val=["v"])


@pytest.mark.parametrize("dataset", ["204", NAME])
def test_the_status_is_printed_for_people_and_as_json_for_scripts(campaign, dataset, capsys):
    assert main(["status", "-d", dataset]) == 0
    assert capsys.readouterr().out == format_status(campaign) + "\n"
    assert main(["status", "-d", dataset, "-f", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "answer": "",
        "certificate": "",
        "forecast": [],
        **campaign_status(campaign),
    }


def test_a_round_that_a_kill_kept_out_of_the_campaign_file_is_counted(made, nnunet_folders, capsys):
    copy_of(made, nnunet_folders)
    campaign = start(oracle="folder")
    before = (campaign.folder / "campaign.json").read_bytes()
    request(campaign, "case_1")
    (campaign.folder / "campaign.json").write_bytes(before)
    assert main(["status", "-d", "902"]) == 0
    said = capsys.readouterr().out
    assert "1 waiting" in said and "case_1" in said
    assert main(["ingest", "-d", "902", "--decline", "case_1"]) == 0


def test_reading_writes_nothing(campaign, capsys):
    before = sorted(campaign.folder.rglob("*"))
    with campaign.lock():  # also while a training holds it
        assert main(["status", "-d", "204"]) == 0
    assert sorted(campaign.folder.rglob("*")) == [*sorted({*before} | {*campaign.folder.glob(".lock")})]


def test_a_fold_without_a_campaign_names_the_command_that_starts_one(campaign, capsys):
    assert main(["status", "-d", "204", "-f", "3"]) == 2
    assert "There is no campaign for fold 3" in capsys.readouterr().err
