from __future__ import annotations

import json

import pytest
from tiny_rounds import copy_of, make_once, request, start

from nnunet_active.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("made"))


@pytest.fixture
def target(made, nnunet_folders):
    target = copy_of(made, nnunet_folders)
    request(start(), "case_2", others=["case_3", "case_4"])
    return target


def test_a_chosen_and_an_unchosen_case_in_words(target, capsys):
    assert main(["explain", "-d", "902", "case_2", "case_4"]) == 0
    out = capsys.readouterr().out
    assert "case_2 was chosen (the only choice): utility 0.9, the highest of 3." in out
    assert "case_4 was not chosen: utility 0.1, the lowest of 3." in out and "Open FLAIR first" in out


def test_the_numbers_as_json_and_a_case_that_is_new(target, capsys):
    assert main(["explain", "-d", "902", "case_2", "case_5", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["case_2"]["rounds"][0]["position"] == 1 and content["case_5"]["rounds"] == []


def test_an_unknown_case_is_one_line_with_similar_names(target, capsys):
    assert main(["explain", "-d", "902", "case_22"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "did you mean case_2" in err


def test_a_case_that_is_set_aside_is_explained_by_the_reason_and_not_called_new(target, capsys):
    (target.raw / "imagesTr" / "case_5_0001.nii.gz").unlink()
    assert main(["explain", "-d", "902", "case_5"]) == 0
    out = capsys.readouterr().out
    assert "case_5 is set aside and cannot be asked for until that is mended: " in out and "lacks the channel" in out
    assert "is new" not in out
