"""``nnunet_active benchmark``: how much each query strategy saves on this target."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnunet_active.cli.arguments import (
    MOST_FOLDS,
    add_configuration,
    add_dataset,
    add_device,
    add_plans,
    add_processes,
    add_slices,
    device_of,
    plain,
    real,
    seed,
    slice_settings,
    whole,
)
from nnunet_active.util.errors import CampaignError


def _any_number(flag: str) -> Callable[[str], int]:
    return whole(flag, 0)


def _positive(flag: str) -> Callable[[str], float]:
    return real(flag, most=1000, positive=True)


def _cluster_options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CampaignError(f"--cluster-options {text} is not JSON ({error}).") from None
    if not isinstance(options, dict):
        raise CampaignError(f"""--cluster-options {text} must be a JSON object, e.g. '{{"slurm_partition": "gpu"}}'.""")
    return options


_DIRECT = (
    ("budget", whole, "cases, or slices, to query in all"),
    ("query_size", whole, "cases, or slices, per query"),
    ("stride", whole, "epochs between two queries"),
    ("iterations", whole, "training iterations per epoch"),
    ("val_iterations", whole, "validation iterations per epoch"),
    ("epochs", whole, "epochs in all (default: one stride for every query)"),
    ("lr", _positive, "initial learning rate (default: the trainer's)"),
    ("splits", whole, "parts of the cross-validation; fold f is tested on part f"),
    ("held_out", _any_number, "labelled cases that every run sets aside, for --recipes held_out to choose by"),
    ("tolerance_mm", _positive, "tolerance of the surface Dice in mm"),
    ("threads", whole, "threads of a run"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that are not given come from ``--config``, or from the defaults of the benchmark's settings."""
    add_dataset(parser, required=False)
    add_configuration(parser)
    add_plans(parser)
    add_processes(parser)
    add_device(parser)
    parser.set_defaults(plans=None, device=None)  # the settings' own defaults, so that --config counts
    parser.add_argument(
        "-m", dest="model", type=Path, help="source model: plan and preprocess with it, in the benchmark's folder"
    )
    parser.add_argument("-tr", dest="trainer", type=plain("-tr"), help="trainer class (default: nnUNetTrainerActive)")
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, help="the benchmark's folder; the same one goes on"
    )
    parser.add_argument("--config", type=Path, help="JSON file with the settings; flags count more")
    parser.add_argument(
        "--strategies", nargs="+", metavar="ARM", help="what to compare: STRATEGY[:one_off][:pseudo][:OPTION=VALUE]"
    )
    parser.add_argument(
        "--recipes",
        nargs="+",
        help="ways of fine-tuning, as init has them and with its default: RECIPE[:SETTING=VALUE]",
    )
    for name, kind, text in _DIRECT:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, type=kind(flag), help=text)
    add_slices(parser)
    parser.add_argument(
        "--seeds", nargs="+", type=seed("--seeds"), metavar="SEED", help="one number n means the seeds 0 to n - 1"
    )
    parser.add_argument("--folds", nargs="+", type=whole("--folds", 0, MOST_FOLDS), help="folds to run (default: 0)")
    parser.add_argument("--split-file", type=Path, help="a splits_final.json that defines the folds")
    parser.add_argument("--no-all-labels", action="store_true", help="leave out the trainings on all labels")
    parser.add_argument(
        "--engine", choices=("local", "submitit"), default="local", help="where to run (default: local)"
    )
    parser.add_argument("--cluster", choices=("slurm", "local"), default="slurm", help="with --engine submitit")
    parser.add_argument(
        "--cluster-options", type=_cluster_options, default={}, metavar="JSON", help="submitit's parameters"
    )
    parser.add_argument(
        "--drop-checkpoints", action="store_true", help="when all runs are finished, delete what they trained"
    )
    parser.add_argument("--again", metavar="RUN", help="do one run of results.csv again, from its row, and compare")
    parser.add_argument("--summary-only", action="store_true", help="run nothing; make tables, plots and page anew")


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    from nnunet_active.nnunet.nnunet_paths import dataset_name

    given: dict[str, Any] = {name: getattr(args, name) for name, _, _ in _DIRECT}
    given |= {"configuration": args.configuration, "plans": args.plans, "trainer": args.trainer, "device": args.device}
    given |= slice_settings(args)
    given |= {"arms": args.strategies, "recipes": args.recipes, "folds": args.folds}
    # whole, since a later call may come from another folder
    given["split_file"] = str(args.split_file.expanduser().resolve()) if args.split_file else None
    if args.seeds == [0]:
        raise CampaignError(
            "--seeds 0 means no seed at all: one number n means the seeds 0 to n - 1. Seed 0 alone is --seeds 1."
        )
    if args.seeds:
        given["seeds"] = list(range(args.seeds[0])) if len(args.seeds) == 1 else args.seeds
    if args.dataset:
        given["dataset"] = dataset_name(args.dataset)
    if args.no_all_labels:
        given["all_labels"] = False
    return {name: value for name, value in given.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    """Prepare, do the unfinished runs, summarise."""
    from nnunet_active.benchmark.all_runs import CONFIGURATION, add_missing_rows, prepare_benchmark, run_benchmark
    from nnunet_active.benchmark.configuration import Configuration, read_configuration
    from nnunet_active.benchmark.engines import LocalEngine
    from nnunet_active.benchmark.legs import drop_checkpoints
    from nnunet_active.benchmark.markdown import as_markdown
    from nnunet_active.benchmark.reproduction import run_again
    from nnunet_active.benchmark.results import ROWS
    from nnunet_active.benchmark.summary import FOLDER, read, summarise_benchmark
    from nnunet_active.campaign.settings import check_slice_settings
    from nnunet_active.workspace import Workspace

    changes = _changes(args)
    goes_on = "arms" not in changes or ("dataset" not in changes and (args.output / CONFIGURATION).is_file())
    file = args.config or (args.output / CONFIGURATION if goes_on else None)
    if file is None:
        changes.setdefault("device", device_of(None, print).type)
        workspace = Workspace(changes["dataset"], "0", args.configuration, args.plans) if args.dataset else None
        if workspace is not None and args.model is None and workspace.plans_file.is_file():
            workspace.tell_configuration(print)
            changes["configuration"] = workspace.configuration
    elif args.device is not None:
        device_of(args.device)
    configuration = read_configuration(file, **changes) if file else Configuration.from_json(changes)
    check_slice_settings(changes, configuration.unit)
    if not configuration.arms and not configuration.all_labels:
        raise CampaignError("There is nothing to compare; name strategies with --strategies.")
    benchmark = prepare_benchmark(configuration, args.output, args.model, args.processes)
    if args.again:
        table = run_again(args.output / ROWS, args.again, benchmark.target)
        print(as_markdown(table))
        return 0 if table[["same request", "same weights"]].all(axis=None) else 1
    failed = []
    if args.summary_only:
        add_missing_rows(benchmark)
    else:
        if args.engine == "submitit":
            from nnunet_active.benchmark.submitit_engine import SubmititEngine

            engine = SubmititEngine(args.output / "jobs", args.cluster, args.cluster_options)
        else:
            engine = LocalEngine(args.processes)
        failed = run_benchmark(benchmark, engine)
    if benchmark.results:
        folder, tables = args.output / FOLDER, read(args.output)
        summarise_benchmark(
            tables,
            folder,
            title=f"Query strategies on {configuration.dataset} ({configuration.configuration})",
        )
        print(f"Summary: {folder / 'summary.html'} and summary.md")
        if earlier := tables.rows["run"].nunique() - len(benchmark.results):
            print(f"{earlier} runs of earlier calls can be compared with these and are in the tables, too.")
    if args.drop_checkpoints and len(benchmark.results) == len(benchmark.runs):
        print(f"{drop_checkpoints(args.output / 'legs') / 2**20:.0f} MiB of checkpoints were deleted.")
    print(
        f"{len(benchmark.results)} of {len(benchmark.runs)} runs are finished; one row per run, round and class is in "
        f"{args.output / ROWS}"
    )
    if failed:
        print(f"{len(failed)} failed; the same command tries them again.")
    return 1 if failed else 0
