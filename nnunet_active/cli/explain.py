"""``nnunet_active explain``: why a case was chosen or not."""

from __future__ import annotations

import argparse
import contextlib
import json

from nnunet_active.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One case or several."""
    parser.add_argument("cases", nargs="+", metavar="CASE", help="case identifier")
    arguments.add_dataset(parser)
    arguments.add_fold(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Read the records of the rounds; nothing is computed or written."""
    from nnunet_active.data.cases_set_aside import cases_set_aside
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.rounds.explanation import explain_case
    from nnunet_active.rounds.explanation_words import format_explanation
    from nnunet_active.util.errors import ActiveError
    from nnunet_active.workspace import Workspace

    workspace = Workspace(dataset_name(args.dataset), args.fold)
    campaign, raw = workspace.campaign.adopt(), workspace.raw
    aside = dict(raw.problems)
    with contextlib.suppress(ActiveError):  # missing plans must not prevent the explanation
        aside = cases_set_aside(workspace.store, raw)
    explained = [explain_case(campaign, case, raw.cases, aside) for case in args.cases]
    if args.json:
        print(json.dumps({entry["case"]: entry for entry in explained}, indent=2))
    else:
        print(*map(format_explanation, explained), sep="\n\n")
    return 0
