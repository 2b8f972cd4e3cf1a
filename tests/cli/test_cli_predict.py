from __future__ import annotations

import argparse
import re
import sys

import pytest
from nnunetv2.inference.predict_from_raw_data import predict_entry_point

from nnunet_active.cli import predict
from nnunet_active.cli.main import main


def test_every_flag_is_one_of_nnunetv2_predict(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nnUNetv2_predict", "-h"])
    with pytest.raises(SystemExit):
        predict_entry_point()
    stock = set(re.findall(r"(?<![\w-])--?[a-zA-Z_]+", capsys.readouterr().out))
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    ours = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    assert ours == stock - {"-h", "--help"}


@pytest.mark.parametrize(
    "flags",
    [
        ["-step_size", "2"],
        ["-step_size", "0"],
        ["-npp", "-1"],
        ["-f", "first"],
        ["-tr", "../x"],
        ["-num_parts", "0"],
        ["-part_id", "1"],
        ["-prev_stage_predictions", "stage_1"],
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(nnunet_folders, tmp_path, capsys, flags):
    assert main(["predict", "-i", "in", "-o", str(tmp_path / "out"), "-d", "902", "-c", "2d", *flags]) == 2
    assert flags[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_processes_for_one_half_of_the_work_alone_are_refused(nnunet_folders, tmp_path, capsys, monkeypatch):
    given = ["predict", "-i", "in", "-o", str(tmp_path / "out"), "-d", "902", "-c", "2d", "-device", "cpu"]
    assert main([*given, "-npp", "0", "-nps", "1"]) == 2
    assert "-npp 0 and -nps 1 do not go together" in capsys.readouterr().err
    monkeypatch.setenv("nnUNet_nps", "0")  # the defaults are where nnU-Net looks for them
    assert main([*given, "-npp", "2"]) == 2
    assert "-npp 2 and -nps 0 do not go together" in capsys.readouterr().err


def test_the_second_stage_of_a_cascade_is_refused_with_what_to_do(nnunet_folders, tmp_path, capsys):
    given = ["predict", "-i", "in", "-o", str(tmp_path / "out"), "-d", "902", "-c", "3d_cascade_fullres"]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "-c 3d_cascade_fullres is for the second stage of a cascade" in said and "nnUNetv2_predict" in said


def test_a_data_set_that_is_not_there_is_named(nnunet_folders, tmp_path, capsys):
    assert main(["predict", "-i", "in", "-o", str(tmp_path / "out"), "-d", "902", "-c", "2d", "-device", "cpu"]) == 2
    assert "902" in capsys.readouterr().err and not (tmp_path / "out").exists()
