import argparse
import json

import pytest
import tiny_dataset as tiny
from tiny_campaign import begin

from nnunet_active.cli import preprocess
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.outputs import keep_aside


@pytest.fixture
def folders(tmp_path, monkeypatch):
    raw = tiny.make_raw(tmp_path / "raw")
    preprocessed = tmp_path / "preprocessed" / tiny.NAME
    preprocessed.mkdir(parents=True)
    (preprocessed / "nnUNetActivePlans.json").write_text(json.dumps(tiny.make_plans()))
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    return raw, preprocessed


def run(*words):
    parser = argparse.ArgumentParser()
    preprocess.add_arguments(parser)
    return preprocess.run(parser.parse_args(["-d", "901", "-c", "2d", "-np", "1", *words]))


def test_the_summary_counts_cases_and_gives_the_next_command(folders, capsys):
    assert run() == 0
    printed = capsys.readouterr().out
    assert "2 labelled cases" in printed and "1 unlabelled cases" in printed
    assert "3 preprocessed now, 0 were up to date." in printed
    assert printed.rstrip().endswith("nnunet_active init -d 901 -c 2d")
    assert run() == 0
    assert "0 preprocessed now, 3 were up to date." in capsys.readouterr().out


def test_while_a_campaign_runs_the_next_command_is_not_another_init(folders, capsys):
    begin(folders[1], "2")
    assert run() == 0
    assert capsys.readouterr().out.rstrip().endswith("Next: nnunet_active next -d 901 -f 2")


def test_after_a_campaign_was_set_aside_the_next_command_starts_one(folders, capsys):
    keep_aside(begin(folders[1], "2").folder)
    assert run() == 0
    assert capsys.readouterr().out.rstrip().endswith("Next: nnunet_active init -d 901 -c 2d")


def test_a_case_that_was_set_aside_is_printed_and_makes_the_exit_code_one(folders, capsys):
    (folders[0] / "imagesTr" / "a_0001.nii.gz").unlink()
    assert run() == 1
    assert "Case a lacks the channel FLAIR" in capsys.readouterr().out


def test_json_is_all_that_is_printed_on_request(folders, capsys):
    (folders[0] / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    assert run("--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["labelled"], result["unlabelled"], result["done"]) == (["b"], ["u"], ["b", "u"])
    assert list(result["problems"]) == ["a"] and result["next"].startswith("nnunet_active init")


def test_a_pool_folder_is_used_and_remembered(folders, tmp_path, capsys):
    tiny.write_images(tmp_path / "more", "p")
    assert run("--pool", str(tmp_path / "more")) == 0
    tiny.write_images(tmp_path / "more", "q")
    assert run("--json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{") :])["unlabelled"] == ["p", "q", "u"]


def test_a_pool_folder_that_is_not_there_is_not_remembered(folders, tmp_path):
    with pytest.raises(MissingInput, match="nowhere"):
        run("--pool", str(tmp_path / "nowhere"))
    assert run() == 0


def test_missing_plans_are_named_with_the_command_that_makes_them(folders):
    (folders[1] / "nnUNetActivePlans.json").unlink()
    with pytest.raises(MissingInput, match=r"nnUNetActivePlans\.json was not found; .*nnunet_active plan -d 901"):
        run()


def test_a_configuration_that_the_plans_lack_is_named(folders):
    with pytest.raises(MissingInput, match="no configuration 3d_lowres"):
        run("-c", "3d_lowres")
