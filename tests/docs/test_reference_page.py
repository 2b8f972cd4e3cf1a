"""``docs/reference.md`` lists commands, flags, trainers, strategies and files; the code decides whether it is right."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_rounds
from tiny_target import NAME

from nnunet_active.cli.main import COMMANDS, build_parser
from nnunet_active.nnunet_discovery import nnunet_active_trainers
from nnunet_active.strategies import available_strategies
from nnunet_active.strategies.base import NEEDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "reference.md").read_text(encoding="utf-8")
_OPTION = re.compile(r"`(-{1,2}[a-zA-Z][\w-]*)`")


def _section(heading: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def _rows(text: str) -> Iterator[list[str]]:
    """Cells of every table row whose first cell is code."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line[1:-1].split("|")]


def _parsers() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._subparsers._group_actions
    return dict(actions[0].choices)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings} - {"-h", "--help"}


SHARED = set(_OPTION.findall(_section("Commands").partition("Flags that several commands share")[2]))
OWN = {row[0].strip("`"): set(_OPTION.findall(row[-1])) for row in _rows(_section("Commands").partition("share:")[0])}


def test_every_command_is_listed_once() -> None:
    assert Counter(row[0].strip("`") for row in _rows(_section("Commands").partition("share:")[0])) == Counter(
        list(COMMANDS)
    )


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ("init", "select")])
def test_the_flags_of_a_command_are_those_of_its_parser(command: str) -> None:
    assert OWN[command] == _options(_parsers()[command]) - SHARED


@pytest.mark.parametrize("command", ["init", "select"])
def test_the_flags_of_init_and_select_are_those_of_their_parsers(command: str) -> None:
    listed = {option for row in _rows(_section(f"Flags of `{command}`")) for option in _OPTION.findall(row[0])}
    assert listed == _options(_parsers()[command]) - SHARED


def test_shared_flags_are_those_of_several_commands() -> None:
    users = Counter(option for parser in _parsers().values() for option in _options(parser))
    assert {option for option in SHARED if users[option] < 2} == set()


def test_the_defaults_of_init_are_those_of_its_parser() -> None:
    defaults = {name: action.default for action in _parsers()["init"]._actions for name in action.option_strings}
    listed = {row[0]: row[1] for row in _rows(_section("Flags of `init`"))}
    for cell, default in listed.items():
        option = _OPTION.findall(cell)[0]
        given = defaults[option]
        if given is False:
            assert default == "off", option
        elif given == []:
            assert default == "", option
        elif given is not None:  # else the trainer, or a look at the data, decides
            assert default == str(given), option


def test_every_trainer_is_listed_with_its_strategy_and_its_lengths() -> None:
    listed = {row[0].strip("`"): row for row in _rows(_section("Trainers"))}
    assert set(listed) == set(nnunet_active_trainers.__all__)
    for name, (_, strategy, schedule) in listed.items():
        trainer = getattr(nnunet_active_trainers, name)
        assert strategy == trainer.strategy
        if "the same" not in schedule:
            numbers = set(map(int, re.findall(r"\d+", schedule)))
            assert {trainer.active_epochs, trainer.active_stride, trainer.active_budget} <= numbers


def test_every_strategy_is_listed_once() -> None:
    assert Counter(re.findall(r"`(\w+)`", _section("Strategies"))) == Counter(list(available_strategies()))


def test_every_need_of_a_strategy_is_explained() -> None:
    text = (DOCS / "how-to-add-a-strategy.md").read_text(encoding="utf-8")
    table = text.partition("| word in `needs` or `uses`")[2].partition("\n\n")[0]
    assert {row[0].strip("`") for row in _rows(table)} == set(NEEDS)


def _documented() -> list[str]:
    """Every path of the section on files, with its folders."""
    paths, above = [], []
    for line in _section("Files").partition("```\n")[2].partition("```")[0].splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        entry = line.split()[0]
        above = [*above[:indent], entry]
        paths.append("".join(above))
    return paths


def test_no_path_is_listed_twice() -> None:
    assert [path for path, number in Counter(_documented()).items() if number > 1] == []


def test_what_a_campaign_writes_beside_the_preprocessed_cases_is_listed(made) -> None:
    campaign_files = _campaign_files(made)
    assert any(file.endswith("campaign.json") for file in campaign_files)
    assert [file for file in campaign_files if not any(_covers(path, file) for path in _documented())] == []


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    target = tiny_rounds.make_target(tmp_path, labelled=1, unlabelled=3)
    tiny_rounds.request(tiny_rounds.start(), "case_1", others=["case_2"])
    return target


def _campaign_files(target) -> list[str]:
    root = target.preprocessed.parent
    return [file.relative_to(root).as_posix() for file in (target.preprocessed / "active").rglob("*") if file.is_file()]


def _covers(path: str, file: str) -> bool:
    """Whether a documented path means this file: names in capitals and angle brackets stand for anything."""
    path = path.removeprefix("nnUNet_preprocessed/")
    pattern = re.escape(path.replace("DatasetXXX", NAME).replace("fold_F", "fold_0"))
    pattern = re.sub(r"<[a-z_\\]+>", "[^/]+", pattern).replace("round_001", r"round_\d+")
    return re.fullmatch(pattern + (".*" if path.endswith("/") else ""), file) is not None
