"""``nnunet_active summarize-source``: summarise where the source domain lies in embedding space, to ship with the source model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nnunet_active.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, scans, and where to write."""
    parser.add_argument("-m", dest="model", type=Path, required=True, help="source model: folder or zip")
    scans = parser.add_mutually_exclusive_group(required=True)
    scans.add_argument(
        "-i", dest="images", type=Path, metavar="FOLDER", help="folder of source images, named as in imagesTr"
    )
    scans.add_argument("-d", dest="dataset", help="source data set in nnUNet_raw: its number or its full name")
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FILE.npz", help="the summary, e.g. source_summary.npz"
    )
    arguments.add_configuration(parser)
    parser.add_argument(
        "-f",
        dest="fold",
        type=arguments.fold(),
        help="fold of the source model (default: the one that 'plan' would take)",
    )
    arguments.add_checkpoint(parser)
    parser.add_argument(
        "--clusters",
        type=arguments.whole("--clusters", most=1000),
        help="clusters (default: one for every five cases, at most 8)",
    )
    parser.add_argument(
        "--minimum-cases",
        type=arguments.whole("--minimum-cases"),
        default=3,
        help="clusters of fewer cases are not written (default and lowest: 3)",
    )
    parser.add_argument("--seed", type=arguments.seed(), default=0, help="seed of the clustering (default: 0)")
    parser.add_argument("--trust-checkpoint", action="store_true", help="load a checkpoint that may run code")
    arguments.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case was set aside."""
    from nnunet_active.data.raw_dataset import RawDataset
    from nnunet_active.models.source_embeddings import read_folder, source_embeddings
    from nnunet_active.models.source_model import read_source_model
    from nnunet_active.models.source_summary import read_summary, summarise, write_summary
    from nnunet_active.nnunet.nnunet_paths import dataset_name, raw_folder
    from nnunet_active.nnunet.safe_checkpoint import weights_digest
    from nnunet_active.util.errors import ActiveError
    from nnunet_active.util.outputs import check_output_file

    if args.output.suffix != ".npz":
        raise ActiveError(f"-o {args.output} has to end in .npz; nnU-Net model folders hold it as source_summary.npz.")
    check_output_file(args.output, lambda file: bool(read_summary(file)), "a source summary")
    device = arguments.device_of(args.device)
    source = read_source_model(args.model, args.configuration, args.fold, args.checkpoint, args.trust_checkpoint)
    raw = RawDataset(raw_folder(dataset_name(args.dataset))) if args.dataset else read_folder(args.images, source)
    embeddings, problems = source_embeddings(source, raw, device)
    for sentence in problems.values():
        print(f"WARNING: {sentence}", file=sys.stderr)
    summary = summarise(
        embeddings, weights_digest(source.weights), source.configuration, args.clusters, args.minimum_cases, args.seed
    )
    write_summary(summary, args.output)
    clusters = (
        f"{len(summary.counts)} cluster{'s' * (len(summary.counts) > 1)} of {', '.join(map(str, summary.counts))} cases"
    )
    left_out = len(embeddings) - int(summary.counts.sum())
    print(f"Source network: {source.origin}, {source.configuration}, fold {source.fold}")
    print(
        f"Written: {args.output}: {clusters}, {summary.centroids.shape[1]} features; it holds no image and no case identifier"
        + (f", and nothing of {left_out} cases in clusters of fewer than {summary.minimum}." if left_out else ".")
    )
    print(
        "What it reveals: docs/source-summary.md. Put it beside plans.json of the model before you pass that on, or give it "
        "to nnunet_active init --source-summary."
    )
    return 1 if problems else 0
