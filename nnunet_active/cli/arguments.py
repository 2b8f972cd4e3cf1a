"""Flags that several subcommands share, spelled as nnU-Net spells them."""

from __future__ import annotations

from argparse import ArgumentParser

DEFAULT_PLANS = "nnUNetActivePlans"


def add_dataset(parser: ArgumentParser, required: bool = True) -> None:
    """``-d``: number or name of the target data set."""
    parser.add_argument("-d", dest="dataset", required=required, help="target data set: its number or its full name")


def add_configuration(parser: ArgumentParser, required: bool = True) -> None:
    """``-c``: nnU-Net configuration."""
    parser.add_argument(
        "-c", dest="configuration", required=required, help="nnU-Net configuration: 2d, 3d_fullres or 3d_lowres"
    )


def add_plans(parser: ArgumentParser) -> None:
    """``-p``: plans identifier."""
    parser.add_argument("-p", dest="plans", default=DEFAULT_PLANS, help=f"plans identifier (default: {DEFAULT_PLANS})")


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
