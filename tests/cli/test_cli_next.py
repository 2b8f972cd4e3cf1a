from __future__ import annotations

import json

import pytest
from tiny_rounds import request, start

from nnunet_active.cli.main import main


def test_one_screen_that_ends_with_the_command(target, capsys):
    assert main(["next", "-d", "902"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24 and any(line.startswith("Next: nnunet_active select -d 902") for line in lines)


def test_one_json_object(target, capsys):
    request(start(), "case_2")
    assert main(["next", "-d", "902", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["kind"] == "annotate" and content["state"]["waiting"] == ["case_2"]


@pytest.mark.parametrize("flags", [["-c", "2d"], ["-p", "nnUNetPlans"]])
def test_a_configuration_or_plans_of_another_campaign_are_refused(target, capsys, flags):
    start()
    assert main(["next", "-d", "902", *flags]) == 2
    assert f"The campaign of fold 0 is for {flags[0]} " in capsys.readouterr().err


def test_a_data_set_that_is_not_there_is_one_line(target, capsys):
    assert main(["next", "-d", "17"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
