"""``nnunet_active trainers``: the folder for ``nnUNet_extTrainer``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Print the folder that nnUNet_extTrainer has to name, so that nnUNetv2_train finds our trainers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--export``: the whole shell line."""
    parser.add_argument("--export", action="store_true", help="print the shell command that sets the variable")


def discovery_folder() -> Path:
    """The folder with the one module that re-exports the trainers."""
    import nnunet_active.nnunet_discovery as discovery

    return Path(discovery.__file__).resolve().parent


def run(args: argparse.Namespace) -> int:
    """Print the folder alone, so that ``export nnUNet_extTrainer="$(nnunet_active trainers)"`` works."""
    folder = discovery_folder()
    print(f'export nnUNet_extTrainer="{folder}"' if args.export else folder)
    return 0
