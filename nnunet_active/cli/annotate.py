"""``nnunet_active annotate``: write or complete the hand-off folder of the cases that wait for a label."""

from __future__ import annotations

import argparse
import functools
import json
import sys

from nnunet_active.cli import arguments
from nnunet_active.cli.select import add_handoff, add_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to write, and whose prediction the annotator begins with."""
    arguments.add_dataset(parser)
    arguments.add_fold(parser)
    add_handoff(parser)
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object; messages go to stderr")
    arguments.add_processes(parser)
    arguments.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case could not be handed over."""
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.rounds.between_rounds import annotate
    from nnunet_active.rounds.next_step import next_step
    from nnunet_active.rounds.target_preparation import SelectOptions

    log = functools.partial(print, file=sys.stderr) if args.json else print
    dataset = dataset_name(args.dataset)
    options = SelectOptions(
        dataset=dataset,
        fold=args.fold,
        model=args.model,
        model_folds=tuple(args.model_folds) if args.model_folds else None,
        trust=args.trust_checkpoint,
        processes=args.processes,
        device=arguments.device_of(args.device, log),
    )
    result = annotate(options, args.output, args.copy, log)
    step = next_step(result.workspace)
    if args.json:
        folders = {str(one.number): str(one.folder) for one in result.handed_over}
        content = {"handed_over": folders, "waiting": result.campaign.waiting(), "problems": result.problems}
        print(json.dumps({**content, "message": result.message, "next": step.command}, indent=2))
        return 1 if result.problems else 0
    for one in result.handed_over:
        print(f"Round {one.number}: {', '.join(one.cases) or 'no case'} in {one.folder}")
    if result.message:
        print(result.message)
    first = "Label the cases (README.txt in the folder says how), then: " if step.kind == "label" else "Next: "
    print(step.line(first=first))
    return 1 if result.problems else 0
