"""Flags that several subcommands share, spelled as nnU-Net spells them."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from nnunet_active.commands import DEFAULT_PLANS
from nnunet_active.util.errors import CampaignError


def add_dataset(parser: ArgumentParser, required: bool = True) -> None:
    """``-d``: number or name of the target data set."""
    parser.add_argument("-d", dest="dataset", required=required, help="target data set: its number or its full name")


def add_configuration(parser: ArgumentParser, required: bool = True) -> None:
    """``-c``: nnU-Net configuration."""
    parser.add_argument(
        "-c", dest="configuration", required=required, help="nnU-Net configuration: 2d, 3d_fullres or 3d_lowres"
    )


def add_plans(parser: ArgumentParser, of_campaign: bool = False) -> None:
    """``-p``: plans identifier; ``of_campaign``: by default that of the fold's campaign (None)."""
    default, words = (None, f"the campaign's, else {DEFAULT_PLANS}") if of_campaign else (DEFAULT_PLANS, DEFAULT_PLANS)
    parser.add_argument("-p", dest="plans", default=default, help=f"plans identifier (default: {words})")


def add_fold(parser: ArgumentParser, default: str | None = "0") -> None:
    """``-f``: fold, a number or ``all``."""
    parser.add_argument("-f", dest="fold", default=default, help=f"fold: a number or 'all' (default: {default})")


def add_processes(parser: ArgumentParser, default: int = 2) -> None:
    """``-np``: number of processes."""
    parser.add_argument(
        "-np", dest="processes", type=int, default=default, help=f"number of processes (default: {default})"
    )


def add_device(parser: ArgumentParser) -> None:
    """``-device``: as in ``nnUNetv2_train``."""
    parser.add_argument(
        "-device", choices=("cuda", "cpu", "mps"), default="cuda", help="device for the network (default: cuda)"
    )


def parse_options(flag: str, pairs: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dictionary; a value is JSON where it can be read as such, else text.

    Raises:
        CampaignError: a text without ``=``.

    >>> parse_options("--strategy-option", ["radius=0.5", "gap=anchor"])
    {'radius': 0.5, 'gap': 'anchor'}
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise CampaignError(f"{flag} {pair} has no '='; write NAME=VALUE.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
