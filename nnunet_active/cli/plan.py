"""``nnunet_active plan``: plans for a target data set from a trained source model alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nnunet_active.cli.arguments import add_checkpoint, add_dataset, fold, plain
from nnunet_active.commands import DEFAULT_PLANS, Commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``plan``."""
    add_dataset(parser)
    parser.add_argument(
        "-m", dest="model", required=True, type=Path, help="source model: its trained model folder or exported zip"
    )
    parser.add_argument(
        "-c",
        dest="configurations",
        type=plain("-c"),
        nargs="+",
        default=None,
        help="nnU-Net configurations, e.g. 3d_fullres; may be left out if the source model has only one",
    )
    parser.add_argument(
        "-f",
        dest="fold",
        type=fold(),
        default=None,
        help="fold of the source model: a number or 'all' (default: the lowest number)",
    )
    add_checkpoint(parser, "checkpoint of the source model")
    parser.add_argument(
        "-plans_name", dest="plans_name", default=DEFAULT_PLANS, help=f"name of the plans (default: {DEFAULT_PLANS})"
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read the checkpoint even if that can run code stored in it; only for files of people you trust",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")


def run(args: argparse.Namespace) -> int:
    """Plan, write, and print what was matched and what to do next."""
    from nnunet_active.nnunet import nnunet_paths
    from nnunet_active.planners.source_model_planner import SourceModelPlanner, read_sources

    dataset = nnunet_paths.dataset_name(args.dataset)
    planner = SourceModelPlanner(
        nnunet_paths.raw_folder(dataset),
        read_sources(args.model, args.configurations, args.fold, args.checkpoint, args.trust_checkpoint),
        plans_name=args.plans_name,
    )
    file = planner.write()
    steps = [Commands(dataset, source.configuration, args.plans_name).preprocess() for source in planner.sources]
    if args.json:
        print(json.dumps({**planner.summary(), "next": steps}, indent=2))
        return 0
    print(*planner.lines(), f"Plans written to {file}.", "Next:", *(f"  {step}" for step in steps), sep="\n")
    return 0
