"""``nnunet_active predict``: nnUNetv2_predict with a guard for scans in which an adapted model loses a class."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from nnunet_active.cli.arguments import (
    add_checkpoint,
    add_configuration,
    add_dataset,
    add_device,
    add_folds,
    add_plans,
    add_trainer,
    check_part,
    device_of,
    real,
    whole,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``nnUNetv2_predict``, with the same meaning."""
    parser.add_argument("-i", dest="images", type=Path, required=True, help="folder of images, CASE_0000 and so on")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for the label maps and guard.csv")
    add_dataset(parser)
    add_configuration(parser)
    add_plans(parser, of_campaign=True)
    add_trainer(parser)
    add_folds(parser)
    add_checkpoint(parser)
    add_device(parser)
    parser.add_argument("-step_size", type=real("-step_size", most=1, positive=True), default=0.5, help="default: 0.5")
    for flag, work in (("-npp", "preprocess"), ("-nps", "export")):
        variable = f"nnUNet_{flag[1:]}"
        parser.add_argument(
            flag,
            type=whole(flag, 0, 1024),
            default=os.environ.get(variable, "3"),
            help=f"processes that {work}; 0 for both: none (default: 3, or what {variable} says)",
        )
    parser.add_argument("-num_parts", type=whole("-num_parts"), default=1, help="parts of the cases (default: 1)")
    parser.add_argument(
        "-part_id",
        type=whole("-part_id", 0),
        default=0,
        help="which part this call predicts, from 0; each has a guard_part_I_of_N.csv in place of guard.csv (default: 0)",
    )
    parser.add_argument(
        "-prev_stage_predictions",
        type=lambda folder: _no_cascade(f"-prev_stage_predictions {folder}"),
        help="refused: models of a cascade are not adapted",
    )
    for flag, text in (
        ("--disable_tta", "no mirroring"),
        ("--save_probabilities", "also write class probabilities"),
        ("--continue_prediction", "leave what is there"),
        ("--disable_progress_bar", "no progress bar"),
        ("--not_on_device", "keep the results off the GPU, for large images"),
        ("--verbose", "say more"),
    ):
        parser.add_argument(flag, action="store_true", help=text)


def _no_cascade(given: str) -> NoReturn:
    from nnunet_active.util.errors import ActiveError

    raise ActiveError(
        f"{given} is for the second stage of a cascade, which has no source network to guard it; predict with nnUNetv2_predict."
    )


def run(args: argparse.Namespace) -> int:
    """Predict, and say which cases the guard predicted again. Returns 0, or 1 if a case was set aside."""
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.training.guarded_prediction import PredictOptions, predict_guarded
    from nnunet_active.util.errors import ActiveError
    from nnunet_active.workspace import Workspace

    if (args.npp == 0) != (args.nps == 0):
        raise ActiveError(f"-npp {args.npp} and -nps {args.nps} do not go together; give both 0, or both at least 1.")
    check_part(args.part_id, args.num_parts)
    if "cascade" in (args.configuration or ""):
        _no_cascade(f"-c {args.configuration}")
    device = device_of(args.device, print)
    names = ("images", "output", "dataset", "configuration", "plans", "trainer", "folds", "checkpoint", "step_size")
    given = {name: getattr(args, name) for name in (*names, "npp", "nps", "save_probabilities", "verbose")}
    Workspace(dataset_name(args.dataset), args.folds[0], args.configuration, args.plans).tell_configuration(print)
    options = PredictOptions(
        **given,
        device=device,
        mirroring=not args.disable_tta,
        overwrite=not args.continue_prediction,
        progress=not args.disable_progress_bar,
        on_device=not args.not_on_device,
        part=(args.part_id, args.num_parts),
    )
    result = predict_guarded(options)
    print(*(f"WARNING: {said}" for said in (*result.warnings, *result.problems.values())), *result.lines, sep="\n")
    if result.problems:
        print(f"Set aside, nothing is predicted of: {', '.join(result.problems)}.")
    return 1 if result.problems else 0
