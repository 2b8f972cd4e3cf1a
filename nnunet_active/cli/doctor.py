"""``nnunet_active doctor``: whether everything is in place."""

from __future__ import annotations

import argparse

from nnunet_active.cli.arguments import add_configuration, add_dataset, add_fold, add_plans


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-d`` adds the checks of a data set; ``--json`` is for scripts."""
    add_dataset(parser, required=False)
    add_configuration(parser)
    add_plans(parser, of_campaign=True)
    add_fold(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if there is a problem; warnings do not count."""
    from nnunet_active.doctor import doctor

    checks = doctor.examine_installation()
    if args.dataset is not None:
        checks += doctor.run_checks([("data set", lambda: _dataset_checks(args))])
    print(doctor.as_json(checks) if args.json else doctor.report(checks))
    return doctor.exit_code(checks)


def _dataset_checks(args: argparse.Namespace) -> list:
    from nnunet_active.doctor.doctor_dataset import (
        examine_dataset,  # needs nnU-Net, and a broken one must not end the command
    )

    return examine_dataset(args.dataset, args.configuration, args.plans, args.fold)
