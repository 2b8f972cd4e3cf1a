"""``nnunet_active init``: start a campaign."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nnunet_active.cli.arguments import add_configuration, add_dataset, add_fold, add_plans
from nnunet_active.settings import ORACLES, Settings

HELP = "Start a campaign: strategy, budget, schedule and oracle of a fold"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The defaults are mmActS's published settings."""
    default = Settings()
    add_dataset(parser)
    add_configuration(parser)
    add_plans(parser)
    add_fold(parser)
    parser.add_argument("-m", dest="model", type=Path, help="source model, where plans exist already (stock plans)")
    parser.add_argument("--source-fold", help="fold of the source model (default: the first one there)")
    parser.add_argument("--trust-checkpoint", action="store_true", help="load a source checkpoint that may run code")
    parser.add_argument("--strategy", default=default.strategy, help=f"query strategy (default: {default.strategy})")
    parser.add_argument(
        "--strategy-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the strategy; repeatable",
    )
    for name, text in (
        ("stride", "epochs between two queries"),
        ("epochs", "epochs in all"),
        ("iterations", "training iterations per epoch"),
        ("val_iterations", "validation iterations per epoch"),
        ("budget", "cases to query in all"),
        ("query_size", "cases per query"),
    ):
        value = getattr(default, name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=value, help=f"{text} (default: {value})")
    parser.add_argument(
        "--lr", type=float, default=default.initial_lr, help=f"initial learning rate (default: {default.initial_lr})"
    )
    parser.add_argument("--one-off", action="store_true", help="take the whole budget in the first query")
    parser.add_argument(
        "--oracle", choices=ORACLES, help="default: retrospective if every case has a label, else folder"
    )
    parser.add_argument(
        "--modality", choices=("zero", "replicate"), default=default.modality, help="how one channel alone is shown"
    )
    parser.add_argument(
        "--wait", action="store_true", help="with the folder oracle: wait for labels instead of stopping"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help=f"seed (default: {default.seed})")
    parser.add_argument(
        "--restart", action="store_true", help="keep the fold's campaign under another name and start anew"
    )


def _options(pairs: list[str]) -> dict:
    from nnunet_active.errors import CampaignError

    options = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise CampaignError(f"--strategy-option {pair} has no '='; write NAME=VALUE.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def run(args: argparse.Namespace) -> int:
    """Write the campaign and print the training command."""
    from nnunet_active.campaign_start import open_store, read_plans, start_campaign
    from nnunet_active.networks import build_network
    from nnunet_active.nnunet_paths import dataset_name, preprocessed_folder
    from nnunet_active.source_model import carry_over, read_source_model, save_source_model, source_folder

    dataset = dataset_name(args.dataset)
    settings = Settings(
        strategy=args.strategy,
        strategy_options=_options(args.strategy_option),
        budget=args.budget,
        query_size=args.query_size,
        one_off=args.one_off,
        stride=args.stride,
        epochs=args.epochs,
        iterations=args.iterations,
        val_iterations=args.val_iterations,
        initial_lr=args.lr,
        modality=args.modality,
        wait=args.wait,
        seed=args.seed,
    )
    source = None
    if args.model is not None:
        source = read_source_model(args.model, args.configuration, args.source_fold, trust=args.trust_checkpoint)
        open_store(dataset, args.plans, args.configuration)
        plans = read_plans(dataset, args.plans)
        dataset_json = json.loads((preprocessed_folder(dataset) / "dataset.json").read_text())
        # what does not fit shows before anything is written
        report = carry_over(build_network(plans, args.configuration, dataset_json), source, plans, dataset_json)
        print(f"Source network: {source.origin}, fold {source.fold}", *report.lines(), sep="\n  ")
    start_campaign(dataset, args.configuration, args.plans, args.fold, settings, args.oracle, args.restart)
    if source is not None:
        save_source_model(source, source_folder(preprocessed_folder(dataset), args.plans, args.configuration))
    trainer = "nnUNetTrainerMmActS" if args.strategy == "mmacts" else "nnUNetTrainerActive"
    print(f"Next: nnUNetv2_train {args.dataset} {args.configuration} {args.fold} -tr {trainer} -p {args.plans}")
    return 0
