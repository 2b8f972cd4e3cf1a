"""``nnunet_active forecast``: how good the predictions for the unlabelled cases will be, and whether the next labels will pay."""

from __future__ import annotations

import argparse
import functools
import json
import sys

from nnunet_active.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Data set, campaign, and which network predicts."""
    arguments.add_dataset(parser)
    arguments.add_fold(parser)
    arguments.add_configuration(parser)
    arguments.add_plans(parser, of_campaign=True)
    parser.add_argument(
        "-tr",
        dest="trainer",
        type=arguments.plain("-tr"),
        help="trainer whose network predicts (default: the newest training of the fold, else the source network)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object; messages go to stderr")
    arguments.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case could not be predicted."""
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.rounds.forecast_record import write_forecast
    from nnunet_active.rounds.forecast_words import forecast_json, forecast_lines
    from nnunet_active.rounds.forecasting import make_forecast
    from nnunet_active.workspace import Workspace

    log = functools.partial(print, file=sys.stderr) if args.json else print
    workspace = Workspace(dataset_name(args.dataset), args.fold)
    if workspace.found_campaign is None:
        workspace = Workspace(workspace.dataset, args.fold, args.configuration, args.plans)
        workspace.tell_configuration(log)
    else:
        workspace.check_is_the_campaigns(args.configuration, args.plans)
        workspace.campaign.adopt()
    forecast = make_forecast(workspace, arguments.device_of(args.device, log), args.trainer, log)
    content = forecast_json(forecast)
    print(json.dumps(content, indent=2) if args.json else "\n".join(forecast_lines(forecast)))
    if workspace.found_campaign is not None:  # after it is shown: it is not lost where the disk is full
        write_forecast(workspace.campaign, content, forecast.digest)
    return 1 if forecast.problems else 0
