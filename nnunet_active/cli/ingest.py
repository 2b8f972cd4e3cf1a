"""``nnunet_active ingest``: take finished labels back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_active.cli.arguments import add_dataset, add_fold

if TYPE_CHECKING:
    from nnunet_active.returned.ingest_report import IngestReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--from``, ``--accept-unchanged``, ``--decline``."""
    add_dataset(parser)
    add_fold(parser)
    parser.add_argument(
        "--from",
        dest="folders",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="where the labels are, at any depth, each named after its case (.nii.gz, .nrrd, .seg.nrrd, .mha, .dcm ...); "
        "default: the hand-off folders of the campaign and labelsTr",
    )
    parser.add_argument(
        "--accept-unchanged",
        nargs="+",
        action="extend",
        default=[],
        metavar="CASE",
        help="cases whose prediction is right as it is",
    )
    parser.add_argument(
        "--decline",
        nargs="+",
        action="extend",
        default=[],
        metavar="CASE",
        help="waiting cases that nobody can label: they are never asked for again and cost nothing of the budget",
    )
    parser.add_argument(
        "--also-drawn", action="store_true", help="where slices are asked for: also take others that were drawn"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why they are declined")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a label was refused, cannot be accepted unchanged or has another name than its case."""
    from nnunet_active.data.file_endings import carries_geometry
    from nnunet_active.nnunet.nnunet_paths import dataset_name, results_root
    from nnunet_active.returned.ingest import ingest
    from nnunet_active.rounds.next_step import next_step
    from nnunet_active.workspace import Workspace

    dataset = dataset_name(args.dataset)
    results_root()  # the next step needs it: say so before a label is taken
    report = ingest(
        dataset,
        args.fold,
        args.folders,
        args.accept_unchanged,
        dict.fromkeys(args.decline, args.reason),
        log=lambda sentence: print(sentence, file=sys.stderr),
        also_drawn=args.also_drawn,
    )
    workspace = Workspace(dataset, args.fold)
    step = next_step(workspace)
    found = report.taken or report.corrected or report.refused or report.untouched or report.astray
    if args.folders and found and step.kind == "label":  # what is missing will come to where something was
        step = replace(step, command=workspace.commands.ingest("--from", *map(str, args.folders)))
    if args.json:
        print(json.dumps({**report.to_json(), "next": step.command}, indent=2))
    else:
        _show(report, workspace.campaign.known_slices(), carries_geometry(workspace.raw.file_ending))
        for sentence in step.costs:
            print(sentence)
        print(step.line())
    return 1 if report.refused or report.astray else 0


def _show(report: IngestReport, in_slices: Container[str], metric: bool) -> None:
    for title, cases in (("New label", report.taken), ("Corrected label", report.corrected)):
        for case, facts in cases.items():
            unasked = "not asked for; " if case in report.unasked else ""
            print(f"{title}: {case} ({unasked}{agreement(facts, case in in_slices, metric)})")
    if report.delivered:
        print(f"Put into labelsTr: {', '.join(report.delivered)}")
    for sentences in report.warnings.values():
        for sentence in sentences:
            if sentence not in report.doubts.values():
                print(f"Warning: {sentence}")
    for case, files in report.untouched.items():
        print(f"Untouched: {case} is still the prediction as it was handed out ({', '.join(files)})")
    if report.untouched:
        print(f"  If a prediction is right as it is: --accept-unchanged {' '.join(report.untouched)}")
    for sentence in report.notes:
        print(sentence)
    for case in report.declined:
        print(f"Declined: {case}")
    for sentence in report.astray.values():
        print(f"Not taken: {sentence}")
    for sentence in report.refused.values():
        print(f"Refused: {sentence}")
    if report.unknown:
        print(
            f"Named after no case, not taken: {', '.join(report.unknown)}. A label has the name of its case, without a channel number."
        )
    handled = report.taken, report.corrected, report.delivered, report.declined
    if not any((*handled, report.refused, report.untouched, report.astray)):
        print("No new label was found.")
    if report.waiting:
        print(f"Still waiting for a label: {', '.join(report.waiting)}")
    for sentence in report.doubts.values():  # last, where they are seen
        print(f"\nLOOK AT THIS LABEL AGAIN: {sentence}\n")


def agreement(facts: dict[str, Any], in_slices: bool, metric: bool = True) -> str:
    """What the annotator did with the prediction, in a few words.

    ``in_slices``: volumes are of the asked slices alone; ``metric``: they are in mm³, and not numbers of pixels.
    """
    from nnunet_active.data.label_agreement import is_accepted

    volumes = "; ".join(
        f"{name} {volume / 1000:.2f} cm3" if metric else f"{name} {volume:.0f} pixels"
        for name, volume in facts["volume_label_mm3"].items()
    )
    volumes += " in the asked slices" if in_slices and volumes else ""
    if facts["changed_voxels"] is None:
        return f"{volumes}; no prediction to compare with"
    if is_accepted(facts):
        return f"{volumes}; accepted as predicted"
    dice = ", ".join(
        f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in facts["dice"].items()
    )
    return f"{volumes}; Dice prediction to label {dice}; {facts['changed_voxels']} voxels changed"
