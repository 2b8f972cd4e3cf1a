"""``nnunet_active pseudo``: which predictions can be trusted, between two trainings."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from typing import TYPE_CHECKING

from nnunet_active.cli import arguments
from nnunet_active.cli.select import add_model

if TYPE_CHECKING:
    from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings


_NUMBERS = {
    "confident_fraction": "the most confident share of the cases (default: the campaign's, else 0.5)",
    "nearer_fraction": "the share of the cases that is nearest to the labelled ones (default: the campaign's, else 0.5)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Campaign, model, which predictions, and what to write."""
    arguments.add_dataset(parser)
    arguments.add_fold(parser)
    add_model(parser)
    for name, text in _NUMBERS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, type=arguments.real(flag, most=1), help=text)
    parser.add_argument(
        "--allow-empty", action="store_true", default=None, help="a case in which nothing is predicted can be reliable"
    )
    parser.add_argument(
        "--derived-dataset",
        metavar="NUMBER|NAME",
        help="also write a raw data set of labelled and reliable cases for stock trainers; its dataset.json says which "
        "labels are predictions that nobody has checked",
    )
    parser.add_argument("--copy", action="store_true", help="copy the images into it instead of linking to them")
    parser.add_argument("--json", action="store_true", help="print one JSON object; messages go to stderr")
    arguments.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if nothing is reliable or a case could not be examined."""
    from nnunet_active.commands import Commands
    from nnunet_active.data.dataset_json import ignore_value
    from nnunet_active.data.partly_labelled import find_partly_labelled
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.pseudo.derived_dataset import derive_dataset, derived_name
    from nnunet_active.pseudo.pseudo_labels import TABLE, Predicting, check_trained, make_reliable_set
    from nnunet_active.rounds.asking_model import find_models, make_window
    from nnunet_active.training.known_slices import KnownSlices
    from nnunet_active.util.errors import ActiveError
    from nnunet_active.util.lock import hold
    from nnunet_active.workspace import Workspace

    if args.copy and not args.derived_dataset:
        raise ActiveError(
            "--copy says how --derived-dataset holds its images; name that data set, or leave --copy out."
        )
    log = functools.partial(print, file=sys.stderr) if args.json else print
    device = arguments.device_of(args.device, log)
    workspace = Workspace(dataset_name(args.dataset), args.fold)
    campaign = workspace.campaign
    settings = _settings(args, campaign.settings.pseudo_labels)
    name = derived_name(args.derived_dataset, workspace.dataset) if args.derived_dataset else None
    found = find_models(workspace, args.model, args.model_folds, args.trust_checkpoint)
    labelled = bool(campaign.labelled())
    for sentence in check_trained(
        found.models, workspace.plans, workspace.dataset_json, labelled, found.kind == "source"
    ):
        log(f"WARNING: {sentence}")
    for sentence in found.lines():
        log(sentence)
    window = make_window(found, workspace, device)
    # a case that may be asked for further slices has labelled slices already
    candidates = sorted(set(workspace.candidates()) - set(campaign.labelled()))
    known = KnownSlices(campaign, workspace.store, workspace.dataset_json, workspace.fold)
    known.prepare(campaign.labelled(), campaign.held_out(), campaign.known_slices())
    partly = find_partly_labelled(known.folder, campaign.labelled(), ignore_value(workspace.dataset_json))
    # beside a training's own sets, never replacing them
    place = campaign.folder / "pseudo_between_rounds" / f"round_{len(campaign.rounds):03d}"
    by = Predicting(window, workspace.store, workspace.dataset_json, log=log)
    with hold(place.parent):
        made = make_reliable_set(campaign, by, candidates, place, settings, partly=partly)
    lines = [f"All reliabilities: {made.folder / TABLE}"]
    derived = None
    if name is not None and (made.cases or made.filled):
        derived = derive_dataset(name, made, campaign, workspace.raw, by, args.copy)
        lines += [
            f"Derived data set: {derived} ({len(made.cases)} of its labels are predictions that nobody has checked"
            + (f", {len(made.filled)} are completed by such predictions" if made.filled else "")
            + ").",
            f"Next: {Commands(name, campaign.configuration).plan_with_nnunet()}, then any trainer with fold 0; "
            + (
                "its splits_final.json validates on people's labels alone."
                if campaign.labelled() or campaign.val
                else "nobody has labelled a case, so validation is on predictions as well and says nothing."
            ),
        ]
    elif name is not None:
        lines.append(
            "No derived data set was written, since nothing is reliable; a larger --confident-fraction or --nearer-fraction keeps more."
        )
    if args.json:
        content = {
            "folder": str(made.folder),
            "derived": str(derived) if derived else None,
            "reliable": list(made.cases),
            **({"filled": list(made.filled)} if partly.cases else {}),
            "cases": json.loads(made.table.to_json(orient="index")),
            **{key: made.record[key] for key in ("settings", "labelled", "network", "notes")},
        }
        print(json.dumps(content, indent=2))
    else:
        print(*lines, sep="\n")
    looked_at = len(candidates) + len(partly.cases)
    return 0 if (made.cases or made.filled) and len(made.table) == looked_at else 1


def _settings(args: argparse.Namespace, campaign: dict | None) -> PseudoLabelSettings:
    """The campaign's settings, with the command line's flags on top."""
    from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings

    said = {name: getattr(args, name) for name in (*_NUMBERS, "allow_empty")}
    wanted = {**(campaign or {}), **{name: value for name, value in said.items() if value is not None}}
    return PseudoLabelSettings.of({**wanted, "share": wanted.get("share") or PseudoLabelSettings().share})
