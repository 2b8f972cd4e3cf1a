"""Flags that several commands share."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser
from pathlib import Path

import pytest

from nnunet_active.cli import arguments
from nnunet_active.cli.arguments import device_of, fold, plain, real, seed, whole
from nnunet_active.cli.main import build_parser
from nnunet_active.util.errors import ActiveError


def test_flags_are_spelled_as_nnunet_spells_them():
    parser = ArgumentParser()
    for add in (arguments.add_dataset, arguments.add_configuration, arguments.add_plans, arguments.add_fold):
        add(parser)
    arguments.add_processes(parser)
    arguments.add_device(parser)
    args = parser.parse_args(["-d", "204", "-c", "2d", "-f", "all", "-p", "P", "-np", "3", "-device", "cpu"])
    assert vars(args) == {
        "dataset": "204",
        "configuration": "2d",
        "fold": "all",
        "plans": "P",
        "processes": 3,
        "device": "cpu",
    }
    few = parser.parse_args(["-d", "204", "-c", "2d"])
    assert (few.plans, few.fold, few.processes, few.device) == (arguments.DEFAULT_PLANS, "0", 2, None)


def every_flag():
    """All flags of all commands that take a value of some kind."""
    commands = next(action for action in build_parser()._subparsers._group_actions)
    return [
        (name, action)
        for name, parser in commands.choices.items()
        for action in parser._actions
        if action.option_strings and action.type is not None
    ]


def test_no_flag_takes_a_number_without_bounds():
    assert [(name, action.dest) for name, action in every_flag() if action.type in (int, float)] == []


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e999", "-1", "x", "99999999999999999999", "../../x", "a/b", "\0"]
)
def test_whatever_a_flag_does_not_take_is_one_sentence_that_names_the_flag(text):
    for name, action in every_flag():
        if action.type in (Path, json.loads):
            continue
        try:
            value = action.type(text)
        except ActiveError as error:
            assert str(error).startswith(action.option_strings[0]), (name, error)
        else:
            numbers = isinstance(value, int | float)
            assert (math.isfinite(value) and abs(value) < 10**10) if numbers else not {"/", "\0"} & set(value), (
                name,
                action,
            )


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (whole("-n"), "0", "-n 0 makes no sense; it must be at least 1."),
        (whole("-n"), "2.5", "-n 2.5 makes no sense; it must be a whole number."),
        (whole("--folds", most=100), "1000000", "--folds 1000000 makes no sense; it must be at most 100."),
        (real("--lr", positive=True), "0", "--lr 0 makes no sense; it must be positive."),
        (real("--lr"), "inf", "--lr inf makes no sense; it must be a finite number."),
        (seed(), "-1", "--seed -1 makes no sense; it must be at least 0."),
        (seed(), "4294967296", "--seed 4294967296 makes no sense; it must be at most 4294967295."),
        (fold(), "../../x", "-f ../../x is neither a number nor 'all'."),
        (plain("-p"), "../x", "-p '../x' cannot be a name here; use letters, digits and '_'."),
    ],
)
def test_bounds_are_said(kind, text, said):
    with pytest.raises(ActiveError) as error:
        kind(text)
    assert str(error.value) == said


def test_what_makes_sense_is_taken_as_it_is():
    assert whole("-n")("7") == 7 and real("--lr")("1e-3") == 1e-3 and seed()("0") == 0
    assert fold()("all") == "all" and fold()("007") == "7" and plain("-p")("nnUNetPlans") == "nnUNetPlans"


def test_the_device_that_was_not_named_is_said():
    said = []
    device = device_of(None, said.append)
    assert said[0].startswith(f"Device: {device.type}")
    said.clear()
    assert device_of("cpu", said.append).type == "cpu" and not said
