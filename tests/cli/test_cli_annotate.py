from __future__ import annotations

import json

from tiny_rounds import request, start

from nnunet_active.cli.main import main


def annotate(*flags: str) -> int:
    return main(["annotate", "-d", "902", "-np", "1", "-device", "cpu", *flags])


def test_the_folder_is_written_and_the_next_command_printed(target, tmp_path, capsys):
    request(start(), "case_1", "case_3", made_by="training")
    assert annotate("-o", str(tmp_path / "out"), "--copy") == 0
    out = capsys.readouterr().out
    assert f"Round 1: case_1, case_3 in {tmp_path / 'out'}" in out and out.rstrip().endswith(
        "nnunet_active ingest -d 902"
    )
    assert (tmp_path / "out" / "worklist.csv").is_file() and (tmp_path / "out" / "case_3" / "case_3.nii.gz").is_file()


def test_two_rounds_have_a_folder_each_within_the_one_that_is_named(target, tmp_path, capsys):
    campaign = start(budget=4)
    request(campaign, "case_1")
    request(campaign, "case_3")
    assert annotate("-o", str(tmp_path / "out"), "--json") == 0
    folders = json.loads(capsys.readouterr().out)["handed_over"]
    assert folders == {"1": str(tmp_path / "out" / "round_001"), "2": str(tmp_path / "out" / "round_002")}


def test_without_a_campaign_or_without_waiting_cases_it_says_so(target, capsys):
    assert annotate() == 2
    assert "There is no campaign" in capsys.readouterr().err
    start()
    assert annotate() == 0
    assert "No case waits for a label." in capsys.readouterr().out


def test_a_case_whose_images_have_gone_is_named_and_the_other_is_handed_over(target, tmp_path, capsys):
    request(start(), "case_1", "case_3")
    for file in (target.raw / "imagesTr").glob("case_1_*"):
        file.unlink()
    assert annotate("-o", str(tmp_path / "out")) == 1
    out = capsys.readouterr().out
    assert "case_1 is not handed over" in out and (tmp_path / "out" / "case_3").is_dir()
