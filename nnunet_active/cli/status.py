"""``nnunet_active status``: where a campaign stands."""

from __future__ import annotations

import argparse
import json

from nnunet_active.cli.arguments import add_dataset, add_fold

HELP = "Show the rounds of a campaign, the cases, and why each was chosen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--json`` for scripts."""
    add_dataset(parser)
    add_fold(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print one table: a row per requested case."""
    from nnunet_active.campaign.status import campaign_status, format_status
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.workspace import Workspace

    status = campaign_status(Workspace(dataset_name(args.dataset), args.fold).campaign)
    print(json.dumps(status, indent=2) if args.json else format_status(status))
    return 0
