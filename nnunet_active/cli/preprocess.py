"""``nnunet_active preprocess``: preprocess labelled and unlabelled cases, only those that are missing or outdated."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.cli import arguments
from nnunet_active.commands import Commands

if TYPE_CHECKING:
    from nnunet_active.data.cases import CaseStore
    from nnunet_active.data.preprocessing import PreprocessingReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags as in ``nnUNetv2_preprocess``, and ``--pool``."""
    arguments.add_dataset(parser)
    arguments.add_configuration(parser)
    arguments.add_plans(parser)
    arguments.add_processes(parser)
    parser.add_argument(
        "--pool",
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="further folders of unlabelled images, named as in imagesTr; remembered for this data set",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case was set aside."""
    from nnunet_active.campaign.slice_campaigns import without_new_slices
    from nnunet_active.data.cases import CaseStore
    from nnunet_active.data.dataset_json import read_dataset_json
    from nnunet_active.data.preprocessing import preprocess_dataset
    from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders, remember_pool_folder
    from nnunet_active.nnunet.nnunet_paths import dataset_name, preprocessed_folder, raw_folder
    from nnunet_active.util.errors import MissingInput
    from nnunet_active.workspace import Workspace

    name = dataset_name(args.dataset)
    raw, folder = raw_folder(name), preprocessed_folder(name)
    plans_file = folder / f"{args.plans}.json"
    if not plans_file.is_file():
        commands = Commands(name, args.configuration or "", args.plans)
        raise MissingInput(
            f"{plans_file} was not found; make it with '{commands.plan()}', or take plans of nnU-Net's own with -p "
            f"({commands.plan_with_nnunet()})."
        )
    workspace = Workspace(name, configuration=args.configuration, plans_name=args.plans)
    workspace.tell_configuration(functools.partial(print, file=sys.stderr) if args.json else print)
    args.configuration = workspace.configuration
    # nnU-Net reads the labels from the copy beside the plans; before planning there is only the raw one
    dataset_json_file = folder / "dataset.json" if (folder / "dataset.json").is_file() else raw / "dataset.json"
    store = CaseStore(folder, workspace.plans, args.configuration)
    # opened before it is remembered, because a folder with a name clash would stop every later command
    pool_folders = [*read_pool_folders(folder), *(Path(pool) for pool in args.pool)]
    dataset = RawDataset(raw, pool_folders)
    for pool in args.pool:
        remember_pool_folder(folder, Path(pool))
    described = read_dataset_json(dataset_json_file).content
    report = preprocess_dataset(without_new_slices(dataset, store, described), store, described, args.processes)
    _show(args, store, report)
    return 1 if report.problems else 0


def _show(args: argparse.Namespace, store: CaseStore, report: PreprocessingReport) -> None:
    labelled, unlabelled = store.labelled_identifiers(), store.pool_identifiers()
    following = _next_command(args, store)
    if args.json:
        content = {
            "labelled": labelled,
            "unlabelled": unlabelled,
            "done": report.done,
            "up_to_date": report.skipped,
            "problems": report.problems,
            "warnings": report.warnings,
            "folder": str(store.folder),
            "pool_folder": str(store.pool_folder),
            "next": following,
        }
        json.dump(content, sys.stdout, indent=4)
        print()
        return
    print(f"{len(labelled)} labelled cases in {store.folder}")
    print(f"{len(unlabelled)} unlabelled cases in {store.pool_folder}")
    print(f"{len(report.done)} preprocessed now, {len(report.skipped)} were up to date.")
    for sentence in report.warnings.values():
        print(f"Warning: {sentence}")
    if report.problems:
        print(f"{len(report.problems)} set aside:")
        for sentence in report.problems.values():
            print(f"  {sentence}")
    print(f"Next: {following}")


def _next_command(args: argparse.Namespace, store: CaseStore) -> str:
    """``init`` before the first campaign; later it would be refused, and ``next`` knows the next step."""
    from nnunet_active.data.campaign_files import campaign_files

    dataset = store.dataset_folder.name
    begun = [*campaign_files(store.dataset_folder)]
    if not begun:
        return Commands(dataset, args.configuration, args.plans).init()
    return Commands(dataset, args.configuration, args.plans, begun[0]).next()
