from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from nnunet_active import __version__
from nnunet_active.cli import arguments
from nnunet_active.cli import main as command_line
from nnunet_active.util.errors import EmptyPool, MissingInput


def main(*argv: str) -> int:
    return command_line.main(list(argv))


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main(command, "--help")
    out = capsys.readouterr().out
    assert end.value.code == 0 and out.startswith(f"usage: nnunet_active {command} ")
    parser = argparse.ArgumentParser()
    importlib.import_module(f"nnunet_active.cli.{command.replace('-', '_')}").add_arguments(parser)
    assert [action.option_strings for action in parser._actions if not action.help] == []


def test_the_overview_names_every_command_with_one_line(capsys):
    with pytest.raises(SystemExit):
        main("--help")
    out = " ".join(capsys.readouterr().out.split())
    for name, text in command_line.COMMANDS.items():
        assert f"{name} {text}" in out and "\n" not in text


def test_every_file_of_the_folder_is_a_command():
    files = {path.stem for path in Path(command_line.__file__).parent.glob("*.py")}
    commands = {name.replace("-", "_") for name in command_line.COMMANDS}
    assert files - {"__init__", "arguments", "main"} == commands


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as end:
        main("--version")
    assert end.value.code == 0 and capsys.readouterr().out == f"nnunet_active {__version__}\n"


@pytest.mark.parametrize("argv", [(), ("unknown",), ("status",), ("status", "-d", "1", "--unknown")])
def test_wrong_flags_end_with_code_2_and_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(*argv)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("usage: nnunet_active")


def test_a_users_mistake_is_one_line_and_its_exit_code(nnunet_folders, capsys):
    assert main("status", "-d", "204") == MissingInput.exit_code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("nnunet_active status: No folder Dataset204_* was found")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (EmptyPool("No case is left."), 0, "nnunet_active trainers: No case is left.\n"),
        (KeyboardInterrupt(), 130, "the same command goes on from here"),
    ],
)
def test_other_ends_have_their_own_codes(monkeypatch, capsys, raised, code, said):
    from nnunet_active.cli import trainers

    def run(args: argparse.Namespace) -> int:
        raise raised

    monkeypatch.setattr(trainers, "run", run)
    assert main("trainers") == code
    assert said in capsys.readouterr().err


def test_an_error_of_ours_is_one_line_and_on_demand_a_traceback(monkeypatch, capsys):
    from nnunet_active.cli import main as module
    from nnunet_active.cli import trainers

    monkeypatch.delenv("NNUNET_ACTIVE_TRACEBACK", raising=False)
    monkeypatch.setattr(trainers, "run", lambda args: 1 / 0)
    assert module.main(["trainers"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nnunet_active trainers: ") and "ZeroDivisionError" in said and said.count("\n") == 1
    monkeypatch.setenv("NNUNET_ACTIVE_TRACEBACK", "1")
    assert module.main(["trainers"]) == 1 and "Traceback" in capsys.readouterr().err


# ---- arguments --------------------------------------------------------------------------------------------------------------


def parser_of_all() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for add in (
        arguments.add_dataset,
        arguments.add_configuration,
        arguments.add_plans,
        arguments.add_fold,
        arguments.add_processes,
        arguments.add_device,
    ):
        add(parser)
    return parser


def test_flags_are_spelled_as_in_nnunet():
    args = parser_of_all().parse_args(
        ["-d", "204", "-c", "2d", "-p", "nnUNetPlans", "-f", "all", "-np", "3", "-device", "cpu"]
    )
    assert vars(args) == {
        "dataset": "204",
        "configuration": "2d",
        "plans": "nnUNetPlans",
        "fold": "all",
        "processes": 3,
        "device": "cpu",
    }


def test_the_plans_of_the_source_model_are_the_default():
    args = parser_of_all().parse_args(["-d", "204", "-c", "2d"])
    assert (args.plans, args.fold, args.processes, args.device) == ("nnUNetActivePlans", "0", 2, None)


@pytest.mark.parametrize("flags", ["-c 2d", "-d 204 -c 2d -device tpu"])
def test_missing_and_impossible_flags_are_refused(flags, capsys):
    with pytest.raises(SystemExit):
        parser_of_all().parse_args(flags.split())
    assert "error:" in capsys.readouterr().err
