"""``nnunet_active init``: start a campaign."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from nnunet_active.campaign.fine_tuning import RECIPES, FineTuning, default_recipe, recipe
from nnunet_active.campaign.settings import ORACLES, RESTARTS, Settings
from nnunet_active.cli.arguments import (
    MOST,
    MOST_FOLDS,
    add_configuration,
    add_dataset,
    add_fold,
    add_groups,
    add_ignore_label_flag,
    add_plans,
    add_slices,
    fold,
    learning_rate,
    real,
    seed,
    slice_settings,
    whole,
)
from nnunet_active.commands import why_trainer
from nnunet_active.util.named_values import parse_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The defaults are those of :class:`~nnunet_active.campaign.settings.Settings`."""
    default = Settings()
    add_dataset(parser)
    add_configuration(parser)
    add_plans(parser)
    add_fold(parser)
    parser.add_argument("-m", dest="model", type=Path, help="source model, where plans exist already (stock plans)")
    parser.add_argument(
        "--source-fold", type=fold("--source-fold"), help="fold of the source model (default: the first one there)"
    )
    parser.add_argument(
        "--source-summary", type=Path, metavar="FILE", help="what summarize-source wrote for this source model"
    )
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
        ("epochs", "epochs in all"),
        ("iterations", "training iterations per epoch"),
        ("val_iterations", "validation iterations per epoch"),
    ):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=whole(flag), help=f"{text} (default: the trainer's own)")
    for name, text in (
        ("stride", "epochs between two queries"),
        ("folds", "folds of a cross-validation among the labelled cases, with -f 0 or -f all; 1: none"),
    ):
        value = getattr(default, name)
        flag = f"--{name.replace('_', '-')}"
        most = MOST_FOLDS if name == "folds" else MOST
        parser.add_argument(flag, type=whole(flag, most=most), default=value, help=f"{text} (default: {value})")
    for name, text in (("budget", "cases, or slices, to query in all"), ("query_size", "cases, or slices, per query")):
        flag = f"--{name.replace('_', '-')}"
        text += f", or so many percent of the cases to choose from, as in 5%% (default: {getattr(default, name)})"
        parser.add_argument(flag, type=_count(flag), metavar="N|N%", help=text)
    add_slices(parser)
    add_groups(parser)
    add_ignore_label_flag(parser)
    parser.add_argument("--lr", type=learning_rate(), help="initial learning rate (default: the trainer's own)")
    parser.add_argument(
        "--recipe",
        metavar="RECIPE[:SETTING=VALUE]",
        help=f"way of fine-tuning: {', '.join(RECIPES)}; plain is the papers' (default: {default_recipe()}; with --unit slice "
        f"{default_recipe('slice')})",
    )
    parser.add_argument(
        "--fine-tuning",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one setting of the fine-tuning, on top of the recipe; repeatable",
    )
    parser.add_argument(
        "--restart-from",
        choices=RESTARTS,
        help="at each query of a training go on (never) or begin again from the source weights (source); default: the trainer's",
    )
    parser.add_argument(
        "--pseudo-labels",
        action="append",
        metavar="on|off|NAME=VALUE",
        help="semi-supervised training: on, off, or on with a setting (repeatable); default: the trainer's, off but for ASSFT",
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
    parser.add_argument("--seed", type=seed(), default=default.seed, help=f"seed (default: {default.seed})")
    parser.add_argument(
        "--restart", action="store_true", help="keep the fold's campaign under another name and start anew"
    )


def _count(flag: str) -> Callable[[str], int | str]:
    """The type of a number of cases or a percentage, kept as given."""

    def kind(text: str) -> int | str:
        if not text.endswith("%"):
            return whole(flag)(text)
        real(flag, most=100, positive=True)(text[:-1])
        return text

    return kind


def _pseudo_labels(given: list[str] | None) -> dict | None:
    from nnunet_active.util.errors import CampaignError

    if given is None:
        return None
    if "off" in given:
        if len(set(given)) > 1:
            raise CampaignError("--pseudo-labels off goes with no other setting of pseudo-labels; leave one out.")
        return {"share": 0}
    return parse_options("--pseudo-labels", [one for one in given if one != "on"])


def run(args: argparse.Namespace) -> int:
    """Write the campaign and print the training command."""
    from dataclasses import replace

    from nnunet_active.campaign.campaign_start import draft_campaign
    from nnunet_active.data.ignore_label import declare_ignore_label
    from nnunet_active.data.patients import Patients
    from nnunet_active.models.model_writing import save_source_model
    from nnunet_active.models.source_model import carry_over, source_folder
    from nnunet_active.models.source_summary import read_summary
    from nnunet_active.nnunet.networks import build_network
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.nnunet.safe_checkpoint import weights_digest
    from nnunet_active.rounds.source_checks import check_new_source, prepared_differently
    from nnunet_active.util.errors import CampaignError
    from nnunet_active.workspace import Workspace

    dataset = dataset_name(args.dataset)
    if args.one_off and args.query_size not in (None, args.budget):
        raise CampaignError("--one-off asks for the whole budget at once; leave --query-size out.")
    counts = {name: getattr(args, name) or getattr(Settings(), name) for name in ("budget", "query_size")}
    percent = {name: float(value[:-1]) for name, value in counts.items() if isinstance(value, str)}
    if percent:  # one query, until the cases are counted, so that no schedule is too short for it
        counts = dict.fromkeys(counts, next((value for name, value in counts.items() if name not in percent), 1))
    of_slices = {"unit": "case", **slice_settings(args, begins=True)}
    if percent and of_slices["unit"] == "slice":
        raise CampaignError("A percentage counts cases; with --unit slice give --budget and --query-size as numbers.")
    named = recipe(args.recipe or default_recipe(of_slices["unit"]))
    settings = Settings(
        strategy=args.strategy,
        strategy_options=parse_options("--strategy-option", args.strategy_option),
        **counts,
        one_off=args.one_off,
        folds=args.folds,
        stride=args.stride,
        epochs=args.epochs,
        iterations=args.iterations,
        val_iterations=args.val_iterations,
        initial_lr=args.lr,
        modality=args.modality,
        wait=args.wait,
        fine_tuning={**named, **parse_options("--fine-tuning", args.fine_tuning)},
        pseudo_labels=_pseudo_labels(args.pseudo_labels),
        restart=args.restart_from,
        groups=Patients.given(args.groups).to_json() if args.groups is not None else {},
        seed=args.seed,
        **of_slices,
    )
    workspace = Workspace(dataset, args.fold, args.configuration, args.plans)
    workspace.tell_configuration(print)
    source = None
    if args.source_fold is not None and args.model is None:
        raise CampaignError("--source-fold names a fold of the source model; name the model with -m.")
    if args.model is not None:
        source = workspace.model(args.model, args.source_fold, trust=args.trust_checkpoint)
        store = workspace.store
        # report a source that does not fit before anything is written
        network = build_network(workspace.plans, store.configuration, workspace.dataset_json)
        report = carry_over(network, source, workspace.plans, workspace.dataset_json)
        print(f"Source network: {source.origin}, fold {source.fold}", *report.lines(), sep="\n  ")
        for sentence in prepared_differently(workspace, source):
            print(sentence)
    if args.source_summary is not None:
        source = source or workspace.source
        read_summary(args.source_summary, weights_digest(source.weights))
        source = replace(source, summary=args.source_summary.read_bytes())
    draft = draft_campaign(workspace.place, settings, args.oracle, percent, cases=workspace.stored)
    if not args.add_ignore_label:  # else the label it needs is declared below
        draft.check_unit()
    draft.check_place(args.restart)
    for sentence in check_new_source(workspace, source) if source is not None else ():
        print(sentence)
    if args.add_ignore_label:
        declare_ignore_label(workspace.raw.folder, workspace.folder)
    if source is not None:  # first: a campaign without it would begin at the one before
        save_source_model(source, source_folder(workspace.folder, args.plans, workspace.configuration))
    draft.begin(args.restart)
    trainer = settings.trainer
    print(
        *why_trainer(trainer),
        *FineTuning.of(settings.fine_tuning).cost(),
        f"Next: {workspace.commands.train(trainer)}",
        sep="\n",
    )
    return 0
