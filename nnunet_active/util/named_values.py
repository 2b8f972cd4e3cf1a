"""Reads settings given as ``NAME=VALUE``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from nnunet_active.util.errors import CampaignError


def value_of(text: str) -> Any:
    """The text as JSON if possible, else itself.

    >>> value_of("0.5"), value_of("anchor")
    (0.5, 'anchor')
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_options(where: str, pairs: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dictionary, the values by `value_of`; ``where`` begins the message of an error.

    Raises:
        CampaignError: a text without ``=``, or a number that is not finite.

    >>> parse_options("--strategy-option", ["radius=0.5", "gap=anchor"])
    {'radius': 0.5, 'gap': 'anchor'}
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise CampaignError(f"{where} {pair} has no '='; write NAME=VALUE.")
        options[name] = value_of(value)
        if isinstance(options[name], float) and not math.isfinite(options[name]):
            raise CampaignError(f"{where} {pair} makes no sense; a number must be finite.")
    return options
