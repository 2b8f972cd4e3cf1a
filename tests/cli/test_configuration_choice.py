from __future__ import annotations

import pytest
from tiny_rounds import CONFIGURATION, plan_another
from tiny_target import NAME

from nnunet_active.cli.main import main

TAKEN = f"Configuration: {CONFIGURATION}, the only one in use with the plans nnUNetActivePlans."


@pytest.mark.parametrize(
    "command",
    [
        *("init", "preprocess", "preprocess --json", "select -n 1 --dry-run", "forecast", "doctor", "next"),
        *("export -o OUT", "export --source -o OUT", "predict -i IN -o OUT", "benchmark -o OUT --strategies random"),
    ],
)
def test_of_several_configurations_every_command_wants_one_by_name(target, tmp_path, capsys, command):
    plan_another(target)
    words = command.replace("OUT", str(tmp_path / "out")).replace("IN", str(target.raw / "imagesTr")).split()
    assert main([words[0], "-d", NAME, *words[1:]]) != 0
    said = capsys.readouterr()
    assert "hold 3d_fullres, 2d: name the configuration with -c" in said.out + said.err
    assert not (tmp_path / "out").exists() and not (target.preprocessed / "active" / "fold_0").exists()


@pytest.mark.parametrize(
    "command", ["init", "preprocess", "preprocess --json", "export --source -o OUT", "export -o OUT"]
)
def test_the_only_configuration_need_not_be_named(target, tmp_path, capsys, command):
    words = command.replace("OUT", str(tmp_path / "out")).split()
    code = main([words[0], "-d", NAME, *words[1:]])
    said = capsys.readouterr()
    assert TAKEN in (said.err if "--json" in words else said.out)
    if command == "export -o OUT":
        assert code == 2 and "nnUNetTrainerActive__nnUNetActivePlans__3d_fullres was not found" in said.err
    else:
        assert code == 0
