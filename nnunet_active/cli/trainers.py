"""``nnunet_active trainers``: the folder for ``nnUNet_extTrainer``."""

from __future__ import annotations

import argparse

from nnunet_active.nnunet_discovery import discovery_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--export``: the whole shell line."""
    parser.add_argument("--export", action="store_true", help="print the shell command that sets the variable")


def run(args: argparse.Namespace) -> int:
    """Print the folder alone, so that ``export nnUNet_extTrainer="$(nnunet_active trainers)"`` works."""
    folder = discovery_folder()
    print(f'export nnUNet_extTrainer="{folder}"' if args.export else folder)
    return 0
