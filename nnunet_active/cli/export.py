"""``nnunet_active export``: a trained model for people who have nnU-Net and not this package."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_active.cli.arguments import add_configuration, add_dataset, add_plans
from nnunet_active.commands import trainer_for

HELP = "write a trained model as a stock nnU-Net model folder or zip, usable without this package"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``export``."""
    add_dataset(parser)
    add_configuration(parser)
    parser.add_argument("-f", dest="folds", nargs="+", default=["0"], help="folds: numbers or 'all' (default: 0)")
    parser.add_argument(
        "-tr",
        dest="trainer",
        default=trainer_for("mmacts"),
        help=f"trainer that the model was trained with (default: {trainer_for('mmacts')})",
    )
    add_plans(parser)
    parser.add_argument("-o", dest="output", required=True, type=Path, help="output folder, or a file ending in .zip")
    parser.add_argument(
        "-chk",
        dest="checkpoint",
        default="checkpoint_final.pth",
        help="checkpoint to export, as checkpoint_final.pth (default: checkpoint_final.pth)",
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read the checkpoint even if that can run code stored in it; only for files of people you trust",
    )


def run(args: argparse.Namespace) -> int:
    """Export and print how the result is used."""
    from nnunet_active.models.model_export import export_model
    from nnunet_active.nnunet import nnunet_paths

    folder = nnunet_paths.results_root() / nnunet_paths.dataset_name(args.dataset)
    trained = folder / f"{args.trainer}__{args.plans}__{args.configuration}"
    written = export_model(trained, args.folds, args.output, args.checkpoint, args.trust_checkpoint)
    print(f"Written: {written}")
    print("On a machine with nnU-Net alone:")
    if written.suffix.lower() == ".zip":
        print(f"  nnUNetv2_install_pretrained_model_from_zip {written.name}")
        print(
            f"  nnUNetv2_predict -i IMAGES -o PREDICTIONS -d {args.dataset} -c {args.configuration} -p {args.plans} "
            f"-f {' '.join(args.folds)}"
        )
    else:
        print(
            f"  nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m {written.name} -f {' '.join(args.folds)}"
        )
    return 0
