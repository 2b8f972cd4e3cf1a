"""``nnunet_active report``: one HTML file about a campaign."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_active.cli.arguments import add_dataset, add_fold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-o`` and ``--no-images``."""
    add_dataset(parser)
    add_fold(parser)
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="FILE.html", help="default: report.html in the campaign's folder"
    )
    parser.add_argument("--no-images", action="store_true", help="leave out the slices; names of cases stay")


def run(args: argparse.Namespace) -> int:
    """Write the file and print where it is."""
    from nnunet_active.nnunet.nnunet_paths import dataset_name, results_root
    from nnunet_active.report.report_page import GENERATOR, write_report
    from nnunet_active.util.errors import ActiveError
    from nnunet_active.util.outputs import begins_with, check_output_file
    from nnunet_active.workspace import Workspace

    workspace = Workspace(dataset_name(args.dataset), args.fold)
    campaign = workspace.campaign.adopt()
    file = args.output or campaign.folder / "report.html"
    check_output_file(file, begins_with(GENERATOR), "a report")
    try:
        write_report(workspace, results_root(), file, not args.no_images)
    except OSError as error:
        raise ActiveError(
            f"{file} cannot be written ({error.strerror or error}); name another file with -o."
        ) from error
    holds = "the names of cases" if args.no_images else "images and names of cases"
    print(f"Report: {file} ({file.stat().st_size / 1e6:.1f} MB; it holds {holds})")
    return 0
