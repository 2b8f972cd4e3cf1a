"""``nnunet_active status``: where a campaign stands."""

from __future__ import annotations

import argparse
import json

from nnunet_active.cli.arguments import add_dataset, add_fold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--json`` for scripts."""
    add_dataset(parser)
    add_fold(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print one table: a row per requested case."""
    from nnunet_active.campaign.status import campaign_status, format_status
    from nnunet_active.nnunet.nnunet_paths import dataset_name, results_root
    from nnunet_active.rounds.answer import newest_answer, newest_certificate
    from nnunet_active.rounds.forecast_record import forecast_sentences
    from nnunet_active.rounds.trained_models import trainings_of
    from nnunet_active.workspace import Workspace

    campaign = Workspace(dataset_name(args.dataset), args.fold).campaign.adopt()
    trainings = trainings_of(campaign, results_root())
    answer, bound = newest_answer(trainings, campaign), newest_certificate(trainings, campaign)
    forecast = forecast_sentences(campaign, trainings)
    if args.json:
        print(
            json.dumps(
                {"answer": answer, "certificate": bound, "forecast": forecast, **campaign_status(campaign)}, indent=2
            )
        )
    else:
        said = [sentence for sentence in (answer, bound, *forecast) if sentence]
        print(*([*said, ""] if said else []), format_status(campaign), sep="\n")
    return 0
