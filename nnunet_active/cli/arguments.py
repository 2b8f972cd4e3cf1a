"""Flags that several subcommands share, spelled as in nnU-Net, and the types of their values.

A type refuses impossible values before a command begins, so exit code 2 means that nothing was written.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnunet_active.campaign.settings import PER_CASE, SLICE_AXES, SLICE_RULES, UNITS, check_slice_settings
from nnunet_active.commands import DEFAULT_PLANS
from nnunet_active.util.errors import ActiveError
from nnunet_active.util.log import Log, silent

if TYPE_CHECKING:
    import torch

MOST = 1_000_000
"""No realistic count for a flag is larger."""
MOST_FOLDS = 100
LARGEST_SEED = 2**32 - 1
"""NumPy's largest seed."""


def whole(flag: str, least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """The type of a flag that takes a whole number.

    >>> whole("-n")("3")
    3
    """

    def kind(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ActiveError(f"{flag} {text} makes no sense; it must be a whole number.") from None
        return _within(flag, text, value, least, most)

    return kind


def real(flag: str, least: float = 0.0, most: float = MOST, positive: bool = False) -> Callable[[str], float]:
    """The type of a flag that takes any number within bounds (``positive``: excluding 0).

    >>> real("--lr", positive=True)("1e-3")
    0.001
    """

    def kind(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ActiveError(f"{flag} {text} makes no sense; it must be a finite number.")
        if positive and value <= 0:
            raise ActiveError(f"{flag} {text} makes no sense; it must be positive.")
        return _within(flag, text, value, least, most)

    return kind


def _within(flag: str, text: str, value: Any, least: float, most: float) -> Any:
    if value < least:
        raise ActiveError(f"{flag} {text} makes no sense; it must be at least {_shown(least)}.")
    if value > most:
        raise ActiveError(f"{flag} {text} makes no sense; it must be at most {_shown(most)}.")
    return value


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def fold(flag: str = "-f") -> Callable[[str], str]:
    """The type of a flag that takes a fold: a number, or ``all``. It becomes part of folder names, so nothing else is allowed.

    >>> fold()("all")
    'all'
    """

    def kind(text: str) -> str:
        if text == "all":
            return text
        if not (text.isascii() and text.isdecimal() and len(text) <= 3):
            raise ActiveError(f"{flag} {text} is neither a number nor 'all'.")
        return str(int(text))

    return kind


def seed(flag: str = "--seed") -> Callable[[str], int]:
    """The type of a flag that takes a seed."""
    return whole(flag, 0, LARGEST_SEED)


def plain(flag: str) -> Callable[[str], str]:
    """The type of a flag whose value becomes a file or folder name, and so must not lead anywhere else.

    >>> plain("-p")("nnUNetPlans")
    'nnUNetPlans'
    """

    def kind(text: str) -> str:
        if not text or text[0] in ".-" or len(text) > 200 or any(one in text for one in "/\\\0\n"):
            raise ActiveError(f"{flag} {text!r} cannot be a name here; use letters, digits and '_'.")
        return text

    return kind


def check_part(number: int, parts: int) -> None:
    """Refuse a ``-part_id`` that is none of ``-num_parts``."""
    if number >= parts:
        raise ActiveError(f"-part_id {number} is not one of {parts} parts; they are counted from 0.")


def learning_rate() -> Callable[[str], float]:
    """The type of ``--lr``."""
    return real("--lr", most=100, positive=True)


def add_dataset(parser: ArgumentParser, required: bool = True) -> None:
    """``-d``: number or name of the target data set."""
    parser.add_argument(
        "-d", dest="dataset", type=plain("-d"), required=required, help="target data set: its number or its full name"
    )


def add_configuration(parser: ArgumentParser) -> None:
    """``-c``: nnU-Net configuration."""
    parser.add_argument(
        "-c",
        dest="configuration",
        type=plain("-c"),
        help="nnU-Net configuration: 2d, 3d_fullres or 3d_lowres (default: the campaign's, or the only one that is planned)",
    )


def add_plans(parser: ArgumentParser, of_campaign: bool = False) -> None:
    """``-p``: plans identifier; with ``of_campaign`` the default (None) means that of the fold's campaign."""
    default, words = (None, f"the campaign's, else {DEFAULT_PLANS}") if of_campaign else (DEFAULT_PLANS, DEFAULT_PLANS)
    parser.add_argument(
        "-p", dest="plans", type=plain("-p"), default=default, help=f"plans identifier (default: {words})"
    )


def add_checkpoint(parser: ArgumentParser, text: str = "checkpoint") -> None:
    """``-chk``: file name of a checkpoint."""
    default = "checkpoint_final.pth"
    parser.add_argument(
        "-chk", dest="checkpoint", type=plain("-chk"), default=default, help=f"{text} (default: {default})"
    )


def add_fold(parser: ArgumentParser, default: str | None = "0") -> None:
    """``-f``: fold, a number or ``all``."""
    parser.add_argument(
        "-f", dest="fold", type=fold(), default=default, help=f"fold: a number or 'all' (default: {default})"
    )


def add_folds(parser: ArgumentParser) -> None:
    """``-f``: folds of a trained model, as ``nnUNetv2_predict`` takes them."""
    parser.add_argument(
        "-f", dest="folds", nargs="+", type=fold(), default=["0"], help="folds: numbers or 'all' (default: 0)"
    )


def add_trainer(parser: ArgumentParser) -> None:
    """``-tr``: the trainer that a model was trained with."""
    text = "trainer that the model was trained with (default: the one that the campaign's commands name)"
    parser.add_argument("-tr", dest="trainer", type=plain("-tr"), help=text)


def add_processes(parser: ArgumentParser, default: int = 2) -> None:
    """``-np``: number of processes."""
    parser.add_argument(
        "-np",
        dest="processes",
        type=whole("-np", 1, 1024),
        default=default,
        help=f"number of processes (default: {default})",
    )


def add_device(parser: ArgumentParser) -> None:
    """``-device``: as in ``nnUNetv2_train``, except for the default."""
    parser.add_argument(
        "-device",
        choices=("cuda", "cpu", "mps"),
        help="device for the network (default: the GPU where there is one, else the CPU)",
    )


def device_of(named: str | None, log: Log = silent) -> torch.device:
    """The device that a command uses; logs which one if it was not named.

    Raises:
        MissingInput: the named device is not available.
    """
    from nnunet_active.nnunet.devices import choose_device

    device = choose_device(named)
    if named is None:
        log(f"Device: {device.type}" + (" (PyTorch finds no GPU here)." if device.type == "cpu" else "."))
    return device


def add_slices(parser: ArgumentParser) -> None:
    """``--unit`` and the flags that belong to it; a flag that is not given is None."""
    group = parser.add_argument_group("what to ask for")
    group.add_argument("--unit", choices=UNITS, help=f"whole cases, or slices, which then count (default: {UNITS[0]})")
    group.add_argument(
        "--per-case",
        type=whole("--per-case"),
        metavar="K",
        help=f"with --unit slice: most slices of a case (default: {PER_CASE})",
    )
    group.add_argument(
        "--slices",
        choices=SLICE_RULES,
        help="with --unit slice: the most difficult slice of each part of the prediction (spread), its middle (centre), or "
        f"slices drawn by foreground (random); default: {SLICE_RULES[0]}",
    )
    group.add_argument(
        "--axis",
        choices=SLICE_AXES,
        help="with --unit slice: axis of the stored image; auto: that of the largest spacing, else z (default: auto)",
    )


def add_groups(parser: ArgumentParser) -> None:
    """``--groups``: which cases share a patient."""
    parser.add_argument(
        "--groups",
        metavar="FILE|REGEX",
        help="cases of one patient: a CSV or JSON file of cases and patients, or a regular expression for the part of the case's name "
        "that names the patient; they share a fold, and a query asks for one of them",
    )


def add_ignore_label_flag(parser: ArgumentParser) -> None:
    """``--add-ignore-label``: the user's consent to change ``dataset.json``."""
    parser.add_argument(
        "--add-ignore-label",
        action="store_true",
        help="with --unit slice: write the ignore label into dataset.json where it is missing (the old file is kept)",
    )


def slice_settings(args: Namespace, begins: bool = False) -> dict[str, Any]:
    """The flags of :func:`add_slices` that were given; ``begins``: no campaign is there whose unit they could mean.

    Raises:
        CampaignError: a flag that needs ``--unit slice`` came with another unit, or, with ``begins``, without it.
    """
    given = {
        name: value for name in ("unit", "per_case", "slices", "axis") if (value := getattr(args, name)) is not None
    }
    check_slice_settings(given, given.get("unit", UNITS[0] if begins else ""))
    return given
