"""Flags that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from nnunet_active.cli import arguments
from nnunet_active.util.errors import CampaignError


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
    assert (few.plans, few.fold, few.processes, few.device) == (arguments.DEFAULT_PLANS, "0", 2, "cuda")


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=0.5", 0.5), ("a=true", True), ("a=[1, 2]", [1, 2]), ("a=x=y", "x=y"), ("a=", "")],
)
def test_a_value_is_json_where_it_can_be_and_text_where_not(text, value):
    assert arguments.parse_options("--x", [text]) == {"a": value}


def test_a_pair_without_a_sign_is_refused_with_the_flag_it_came_from():
    with pytest.raises(CampaignError, match=r"--fine-tuning compare has no .=.; write NAME=VALUE\."):
        arguments.parse_options("--fine-tuning", ["compare"])
