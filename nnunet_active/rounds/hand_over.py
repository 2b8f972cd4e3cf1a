"""Hands a campaign's waiting cases over to the annotator: one folder per round; repeating it adds whatever is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from nnunet_active.annotation.archive import Archive
from nnunet_active.annotation.handoff import write_handoff
from nnunet_active.annotation.records import HANDOFF_FILE, AskedSlices, HandoffCase, read_handoff
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import PROBABILITY, Round
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import distinct_channel_names
from nnunet_active.data.ignore_label import require_ignore_value
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.rounds.handoff_place import new_place, set_folder_aside, stays_in_place
from nnunet_active.rounds.labels_at_hand import handoff_content, returned_labels
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.stale_predictions import forget_stale_predictions
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import Log
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class HandedOver:
    """One hand-off folder.

    Attributes:
        number: number of the round.
        folder: path of the folder.
        cases: cases in it, in order of preference.
        set_aside: one sentence for each case that could not be handed over.
    """

    number: int
    folder: Path
    cases: tuple[str, ...]
    set_aside: dict[str, str]


def waiting_rounds(campaign: Campaign) -> list[tuple[Round, tuple[str, ...]]]:
    """The rounds that have waiting cases, each with these cases."""
    waiting, slices = set(campaign.waiting()), campaign.waiting_slices()

    def waits(one: Round, case: str) -> bool:
        # if several rounds asked for slices of a case, those of one round may wait while those of another have arrived
        return case in waiting and (case not in one.slices or one.slices[case].within(slices.get(case)) is not None)

    found = [(one, tuple(case for case in one.requested if waits(one, case))) for one in campaign.rounds]
    return [(one, cases) for one, cases in found if cases]


def check_records(campaign: Campaign) -> None:
    """Check that the records of the waiting cases can be read, before anything is written.

    Raises:
        CampaignError, MissingInput: the record of a round, or of a hand-off folder, is damaged.
    """
    for one, _ in waiting_rounds(campaign):
        one.selection(), one.scores()
        folder = campaign.handoff_folder(one.number)
        if folder is not None and (folder / HANDOFF_FILE).is_file():
            read_handoff(folder)


def is_handed_over(campaign: Campaign) -> bool:
    """Whether every waiting case is in a complete hand-off folder."""
    return all(
        set(cases) <= handoff_content(campaign.handoff_folder(one.number)).keys()
        for one, cases in waiting_rounds(campaign)
    )


def hand_over(
    workspace: Workspace,
    predict: Callable[[np.ndarray], Tensor],
    folder: Path | None = None,
    copy_images: bool = False,
    log: Log = print,
    temperature: Callable[[], float] = lambda: 1.0,
) -> list[HandedOver]:
    """Write the hand-off folders of all waiting cases. Files that somebody has edited are not changed.

    Args:
        workspace: the data set; its campaign is locked.
        predict: maps a preprocessed image (M, Z, Y, X) to logits (C, Z, Y, X), the annotator's starting point. Called only for cases
            that were not handed over before.
        folder: the target folder; a round that was handed over in or below it stays in place. By default, the round's earlier folder,
            else :func:`~nnunet_active.rounds.handoff_place.default_folder`. See :func:`~nnunet_active.rounds.handoff_place.new_place`.
        copy_images: copy the images instead of linking to them, for a folder that is sent elsewhere.
        log: gets messages about what was done.
        temperature: gives the temperature of the uncertainty maps; called when a case is predicted.
    """
    campaign, raw, store = workspace.campaign, workspace.raw, workspace.store
    done = []
    rounds = waiting_rounds(campaign)
    moving = {one.number for one, _ in rounds if not stays_in_place(campaign, one.number, folder)}
    for one, cases in rounds:
        # look the place up for each round: setting one folder aside also moves the hand-off folders below it
        place = campaign.handoff_folder(one.number)
        if place is None or one.number in moving:
            _check_move(campaign, raw, store, one.number)
            place = new_place(campaign, raw, one.number, folder, len(moving) == 1, log)
            set_folder_aside(campaign, one.number, place, "of an earlier hand-off", log)
        forget_stale_predictions(workspace, one.number, cases, log)
        # record the place before writing, so that the same place is used after a kill
        campaign.record_handoff(one.number, place)
        query = Query.of_round(one)
        absent = {
            case: f"{case} is not handed over: {raw.problems.get(case, 'its images are not in the raw data set any more.')}"
            for case in cases
            if case not in raw.cases
        }
        for sentence in absent.values():
            log(f"WARNING: {sentence}")
        there = [case for case in cases if case not in absent]
        report = write_handoff(
            place,
            [_case(query, raw, case, _asked(one, case, workspace)) for case in there],
            Archive(campaign.predictions_folder(one.number), store, workspace.dataset_json, predict, temperature),
            copy_images,
            log,
            fold=campaign.fold,
            round_number=one.number,
        )
        handed = tuple(case for case in there if case not in report.problems)
        done.append(HandedOver(one.number, place, handed, {**absent, **report.problems}))
    return done


def check_moves(workspace: Workspace, folder: Path) -> None:
    """Refuse a new place for hand-off folders if the old one holds finished labels. Call it before a round is made.

    Raises:
        CampaignError: names the cases with finished labels.
    """
    campaign = workspace.campaign
    for one, _ in waiting_rounds(campaign):
        if not stays_in_place(campaign, one.number, folder):
            _check_move(campaign, workspace.raw, workspace.store, one.number)


def _check_move(campaign: Campaign, raw: RawDataset, store: CaseStore, number: int) -> None:
    """Refuse to move away from a folder with finished labels: they would no longer be found."""
    before = campaign.handoff_folder(number)
    if before is None:
        return
    edited = [
        case
        for case, one in returned_labels(campaign, raw, store).items()
        if (one.ready or one.refused) and one.where == before
    ]
    if edited:
        raise CampaignError(
            f"{before} holds finished labels ({', '.join(edited)}); take them back with nnunet_active ingest before another folder "
            f"is written."
        )


def _asked(one: Round, case: str, workspace: Workspace) -> AskedSlices | None:
    """The slices that a round asks for in a case, and the case's label from earlier rounds."""
    if case not in one.slices:
        return None
    request, label = one.slices[case], workspace.raw.cases[case].label
    partly = case in workspace.campaign.known_slices()
    ignore = require_ignore_value(workspace.dataset_json, workspace.folder / "dataset.json")
    return AskedSlices(request.axis, request.slices, ignore, label if partly else None)


def _case(query: Query, raw: RawDataset, case: str, asked: AskedSlices | None) -> HandoffCase:
    row = query.scores.loc[case]
    election = query.selection["dominant_modality"].get(case, {})
    facts: dict[str, Any] = {"round": query.number, "strategy": query.selection.get("strategy") or "not known"}
    for name in (PROBABILITY if query.drawn else "utility", "foreground_mm3", "mean_entropy", "minutes", "objects"):
        if name in row and pd.notna(row[name]):
            facts[name.removeprefix("component_")] = float(row[name])
    names, channel = distinct_channel_names(raw.dataset_json), election.get("channel")
    # two channels may share a name; rounds of earlier versions recorded only that name
    if isinstance(channel, int) and 0 <= channel < len(names) and election.get("name") not in names:
        first = names[channel]
    else:
        first = election.get("name") or names[0]
    return HandoffCase(raw.cases[case], first, query.requested.index(case) + 1, facts, asked, query.drawn)
