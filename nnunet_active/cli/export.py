"""``nnunet_active export``: a trained model for people who have nnU-Net but not this package."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_active.cli.arguments import (
    add_checkpoint,
    add_configuration,
    add_dataset,
    add_folds,
    add_plans,
    add_trainer,
)
from nnunet_active.commands import Commands, use_exported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``export``."""
    add_dataset(parser)
    add_configuration(parser)
    add_folds(parser)
    add_trainer(parser)
    add_plans(parser, of_campaign=True)
    parser.add_argument(
        "--source",
        action="store_true",
        help="export the source model instead, carried over to the target's channels and labels: what to predict with if adapting "
        "it does no good",
    )
    parser.add_argument("-o", dest="output", required=True, type=Path, help="output folder, or a file ending in .zip")
    add_checkpoint(parser, "checkpoint to export, as checkpoint_final.pth")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read the checkpoint even if that can run code stored in it; only for files of people you trust",
    )


def run(args: argparse.Namespace) -> int:
    """Export, and print how to use the result."""
    from nnunet_active.models.model_export import export_model, export_source, exported_trainer
    from nnunet_active.models.source_model import DEFAULT_CHECKPOINT
    from nnunet_active.nnunet import nnunet_paths
    from nnunet_active.util.errors import ActiveError, MissingInput
    from nnunet_active.workspace import Workspace

    ignored = args.trainer or args.checkpoint != DEFAULT_CHECKPOINT or args.trust_checkpoint or len(args.folds) > 1
    if args.source and ignored:
        raise ActiveError(
            "--source exports the source network as it is kept, one fold; leave -tr, -chk, --trust-checkpoint and further folds out."
        )
    workspace = Workspace(nnunet_paths.dataset_name(args.dataset), args.folds[0], args.configuration, args.plans)
    workspace.tell_configuration(print)
    plans, configuration = workspace.plans_name, workspace.configuration
    if args.source:
        written, report = export_source(workspace.source, workspace.plans, workspace.dataset_json, args.output)
        print(*report.lines(), sep="\n")
        _say(written, exported_trainer(written), Commands(args.dataset, configuration, f"{plans}_source"), ["0"])
        return 0
    trainer = args.trainer or workspace.trainer
    trained = nnunet_paths.results_root() / workspace.dataset / f"{trainer}__{plans}__{configuration}"
    if not trained.is_dir():
        others = sorted(one.name.split("__")[0] for one in trained.parent.glob(f"*__{plans}__{configuration}"))
        there = f" ({', '.join(others)} did)" if others else ""
        raise MissingInput(
            f"{trained} was not found: {trainer} has trained no such model{there}; train it first, or name the trainer with -tr."
        )
    written = export_model(trained, args.folds, args.output, args.checkpoint, args.trust_checkpoint)
    _say(written, exported_trainer(written), Commands(args.dataset, configuration, plans), args.folds)
    return 0


def _say(written: Path, trainer: str, commands: Commands, folds: Sequence[str]) -> None:
    print(f"Written: {written}")
    print("On a machine with nnU-Net alone:")
    print(*(f"  {command}" for command in use_exported(written, trainer, commands, folds)), sep="\n")
