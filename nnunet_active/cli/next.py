"""``nnunet_active next``: where the campaign stands and which command comes next."""

from __future__ import annotations

import argparse
import json

from nnunet_active.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c`` and ``-p`` choose only if there is no campaign yet."""
    arguments.add_dataset(parser)
    arguments.add_fold(parser)
    arguments.add_configuration(parser)
    arguments.add_plans(parser, of_campaign=True)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Read and print; nothing is written."""
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.rounds.next_step import next_step
    from nnunet_active.workspace import Workspace

    dataset = dataset_name(args.dataset)
    workspace = Workspace(dataset, args.fold)
    if workspace.found_campaign is None:
        workspace = Workspace(dataset, args.fold, args.configuration, args.plans)
    else:
        workspace.check_is_the_campaigns(args.configuration, args.plans)
    step = next_step(workspace)
    print(json.dumps(step.to_json(), indent=2) if args.json else "\n".join(step.lines()))
    return 0
