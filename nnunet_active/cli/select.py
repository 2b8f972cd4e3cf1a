"""``nnunet_active select``: which cases to label next, between two trainings."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.campaign.settings import DEFAULT_STRATEGY
from nnunet_active.cli import arguments
from nnunet_active.rounds import time_budget
from nnunet_active.util.errors import ActiveError, CampaignError
from nnunet_active.util.launched import processes_of_command
from nnunet_active.util.named_values import parse_options
from nnunet_active.util.sentences import INCOMPLETE

if TYPE_CHECKING:
    from nnunet_active.query.part_of_pool import Part
    from nnunet_active.rounds.between_rounds import SelectResult
    from nnunet_active.rounds.step import NextStep
    from nnunet_active.rounds.target_preparation import SelectOptions
    from nnunet_active.util.log import Log
    from nnunet_active.util.ranks import Ranks

_SCHEDULE = {
    "epochs": "epochs of the training that follows (default: the trainer's own)",
    "iterations": "training iterations per epoch (default: the trainer's own)",
    "val_iterations": "validation iterations per epoch (default: the trainer's own)",
    "stride": "epochs between two queries of a training",
    "initial_lr": "initial learning rate (default: the trainer's own)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to choose from, by which strategy and model, and how many; only ``-d`` and ``-n`` are needed once there is a campaign."""
    arguments.add_dataset(parser)
    arguments.add_configuration(parser)
    arguments.add_plans(parser, of_campaign=True)
    arguments.add_fold(parser)
    add_model(parser)
    parser.add_argument(
        "-n",
        type=arguments.whole("-n"),
        help="how many cases (at first 3) or slices (at first 30; later default: what the campaign's budget has left for a query)",
    )
    parser.add_argument("--strategy", help=f"of this round (default: the campaign's; at first {DEFAULT_STRATEGY})")
    parser.add_argument("--strategy-option", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    parser.add_argument("--seed", type=arguments.seed(), help="seed (default: the campaign's; at first 0)")
    parser.add_argument(
        "--pool",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="further folders of unlabelled images",
    )
    parser.add_argument("--exclude", nargs="+", action="extend", default=[], metavar="CASE", help="never ask for these")
    parser.add_argument(
        "--must-include", nargs="+", action="extend", default=[], metavar="CASE", help="choose these, too"
    )
    parser.add_argument(
        "--time-budget",
        type=arguments.real("--time-budget", positive=True),
        metavar="MINUTES",
        help="choose as many cases, or slices, as an expert can label in this time",
    )
    parser.add_argument(
        "--minutes",
        nargs="+",
        type=arguments.real("--minutes"),
        metavar="MINUTES",
        help="expected minutes: CASE OBJECT CM3, for every case, every predicted object and every cm3 of it (of pictures, 1000 pixels) "
        f"(default: {time_budget.BASE_MINUTES:g} {time_budget.MINUTES_PER_OBJECT:g} {time_budget.MINUTES_PER_CM3:g}); with --unit "
        "slice CASE SLICE, for opening a case and for a slice "
        f"(default: {time_budget.OPENING_MINUTES:g} {time_budget.MINUTES_PER_SLICE:g})",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be asked for, and ask for nothing")
    parser.add_argument("--more", action="store_true", help="ask for further cases although some wait for their labels")
    parser.add_argument(
        "--in-training", action="store_true", help="do not ask now: the next training asks for -n cases by itself"
    )
    parser.add_argument("--explain", action="store_true", help="also say in words why each case was chosen")
    parser.add_argument("--json", action="store_true", help="print one JSON object; messages go to stderr")
    add_handoff(parser)
    started = parser.add_argument_group("settings of a campaign, where this call starts it")
    arguments.add_slices(parser)
    arguments.add_groups(parser)
    arguments.add_ignore_label_flag(parser)
    started.add_argument(
        "--folds",
        type=arguments.whole("--folds", most=arguments.MOST_FOLDS),
        help="folds of a cross-validation among the labelled cases",
    )
    started.add_argument("--recipe", metavar="RECIPE[:SETTING=VALUE]", help="way of fine-tuning, as in init")
    for name, text in _SCHEDULE.items():
        flag = "--lr" if name == "initial_lr" else f"--{name.replace('_', '-')}"
        kind = arguments.learning_rate() if name == "initial_lr" else arguments.whole(flag)
        started.add_argument(flag, dest=name, type=kind, help=text)
    arguments.add_processes(parser)
    arguments.add_device(parser)
    parts = parser.add_argument_group(
        "scoring in parts, as in nnUNetv2_predict; choose by the same command without these flags"
    )
    parts.add_argument("-num_parts", type=arguments.whole("-num_parts"), default=1, metavar="N", help="number of parts")
    parts.add_argument(
        "-part_id",
        type=arguments.whole("-part_id", 0),
        metavar="I",
        help="score part I (from 0) of the pool, and choose nothing",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """``-m`` and the flags that belong to it."""
    parser.add_argument(
        "-m",
        dest="model",
        type=Path,
        help="the model that asks: a model folder, fold folder or exported zip (default: the campaign's own latest, else the source)",
    )
    parser.add_argument(
        "--model-folds",
        nargs="+",
        type=arguments.fold("--model-folds"),
        metavar="FOLD",
        help="folds of that model; several: mean of the probabilities",
    )
    parser.add_argument("--trust-checkpoint", action="store_true", help="load a checkpoint that may run code")


def add_handoff(parser: argparse.ArgumentParser) -> None:
    """``-o`` and ``--copy``."""
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FOLDER",
        help="hand-off folder (default: annotate/fold_F_round_NNN in the raw data set); a further round goes to round_NNN in it",
    )
    parser.add_argument("--copy", action="store_true", help="copy the images into it instead of linking to them")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case was set aside. Of torchrun's processes, one does everything except the others' share of the scoring."""
    if processes_of_command() == 1:
        return _run(args)
    from nnunet_active.util.crew import Crew

    with Crew.meet(functools.partial(print, file=sys.stderr)) as crew:
        if not crew.leads:
            return crew.help()
        code = INCOMPLETE
        try:
            code = _run(args, crew)
        except ActiveError as error:
            code = error.exit_code
            raise
        finally:
            crew.end(code)
    return code


def _run(args: argparse.Namespace, crew: Ranks | None = None) -> int:
    from nnunet_active.rounds.between_rounds import HandOff, select

    log = functools.partial(print, file=sys.stderr) if args.json else print

    def show(result: SelectResult) -> None:
        if args.json:
            print(json.dumps(_json(args, result), indent=2), flush=True)
        else:
            print(*_lines(args, result), sep="\n", flush=True)

    place = HandOff(args.output, args.copy)
    options = _options(args, log) if crew is None else replace(_options(args, log), ranks=crew)
    result = select(options, args.dry_run, args.more, args.in_training, place, log, show)
    return 1 if result.problems else 0


def _options(args: argparse.Namespace, log: Log) -> SelectOptions:
    from nnunet_active.campaign.fine_tuning import recipe
    from nnunet_active.data.patients import Patients
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.rounds.target_preparation import SelectOptions
    from nnunet_active.workspace import Workspace

    settings = {name: value for name in (*_SCHEDULE, "folds") if (value := getattr(args, name)) is not None}
    settings |= arguments.slice_settings(args)
    if args.groups is not None:
        settings["groups"] = Patients.given(args.groups).to_json()
    if args.recipe is not None:
        settings["fine_tuning"] = recipe(args.recipe)
    dataset = dataset_name(args.dataset)
    if args.model is None:  # with a model, its own is used
        Workspace(dataset, args.fold, args.configuration, args.plans).tell_configuration(log)
    return SelectOptions(
        dataset=dataset,
        configuration=args.configuration,
        plans=args.plans,
        fold=args.fold,
        model=args.model,
        model_folds=tuple(args.model_folds) if args.model_folds else None,
        trust=args.trust_checkpoint,
        n=args.n,
        strategy=args.strategy,
        strategy_options=parse_options("--strategy-option", args.strategy_option),
        seed=args.seed,
        settings=settings,
        pool_folders=tuple(args.pool),
        exclude=tuple(args.exclude),
        must_include=tuple(args.must_include),
        add_ignore_label=args.add_ignore_label,
        minutes=args.time_budget,
        time=_time(args.minutes),
        processes=args.processes,
        device=arguments.device_of(args.device, log),
        part=_part(args),
    )


def _part(args: argparse.Namespace) -> Part | None:
    from nnunet_active.query.part_of_pool import Part

    if args.part_id is None:
        if args.num_parts > 1:
            raise CampaignError(f"-num_parts {args.num_parts} goes with -part_id I, from 0 to {args.num_parts - 1}.")
        return None
    if processes_of_command() > 1:
        raise CampaignError(
            "-part_id goes without torchrun, which shares the whole pool out; leave one of the two out."
        )
    arguments.check_part(args.part_id, args.num_parts)
    return Part(args.part_id, args.num_parts)


def _time(minutes: list[float] | None) -> time_budget.AnnotationTime | time_budget.SliceMinutes | None:
    if minutes is None:
        return None
    if len(minutes) not in (2, 3):
        raise CampaignError("--minutes takes three numbers, CASE OBJECT CM3, or two for slices, CASE SLICE.")
    return (time_budget.SliceMinutes if len(minutes) == 2 else time_budget.AnnotationTime)(*minutes)


def _next(result: SelectResult) -> NextStep | None:
    """The next step; None after a dry run."""
    from nnunet_active.rounds.next_step import next_step

    return None if result.outcome in ("proposed", "scored") else next_step(result.workspace)


def _lines(args: argparse.Namespace, result: SelectResult) -> list[str]:
    from nnunet_active.data.file_endings import carries_geometry
    from nnunet_active.rounds import explanation, explanation_words
    from nnunet_active.rounds.round_table import expected_minutes, few_at_once, format_query

    lines = [result.message] if result.message else []
    if result.outcome == "waiting":
        lines.append(
            f"{', '.join(result.campaign.waiting())} still wait for their labels, so nothing new is asked for (--more does)."
        )
    if result.query is not None:
        lines += ["", format_query(result.query, carries_geometry(result.workspace.raw.file_ending))]
        if args.explain:
            for case in result.query.requested:
                lines += ["", *explanation_words.choice_lines(case, explanation.explain_choice(result.query, case))]
    lines += [f"Handed over: {', '.join(one.cases)} in {one.folder}" for one in result.handed_over]
    if result.outcome in ("asked", "proposed") and result.query:
        said = [*filter(None, (expected_minutes(result.query), few_at_once(result.query, result.campaign)))]
        lines += ["", *said] if said else []
    if result.problems:
        lines.append(f"Set aside: {', '.join(result.problems)} (see the warnings).")
    if result.outcome == "scored":
        then = "Once all parts are there, the same command without -num_parts and -part_id chooses among all cases."
        return [*lines, "", then]
    if (step := _next(result)) is None:
        return [*lines, "", "Nothing was asked for; the same command without --dry-run does it."]
    lines += ["", *step.costs] if step.costs else []
    first = "Label the cases (README.txt in the folder says how), then: " if step.kind == "label" else "Next: "
    return [*lines, "", step.line(first=first)]


def _json(args: argparse.Namespace, result: SelectResult) -> dict:
    from nnunet_active.rounds.explanation import explain_choice
    from nnunet_active.rounds.round_table import query_json

    content = {"outcome": result.outcome, "message": result.message, "problems": result.problems}
    if result.query is not None:
        content |= query_json(result.query)
        if args.explain:
            content["explanations"] = {case: explain_choice(result.query, case) for case in result.query.requested}
    content["waiting"] = result.campaign.waiting() if result.campaign else []
    content["handed_over"] = {str(one.number): str(one.folder) for one in result.handed_over}
    step = _next(result)
    content["next"] = "" if step is None else step.command
    return content
