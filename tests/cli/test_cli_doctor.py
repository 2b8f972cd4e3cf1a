from __future__ import annotations

import json

import pytest

from nnunet_active.cli.main import main


@pytest.mark.stock
def test_the_checks_of_a_data_set_come_with_those_of_the_installation_and_a_problem_is_exit_code_1(
    nnunet_folders, capsys
):
    assert main(["doctor", "-d", "902", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    found = {check["name"]: check for check in content["checks"]}
    assert found["data set"]["state"] == found["nnUNet_extTrainer"]["state"] == "problem"
    assert "902" in found["data set"]["found"] and found["python"]["state"] == "ok"
    assert content["problems"] == sum(check["state"] == "problem" for check in content["checks"])
