"""Keeps forecasts in ``forecast.json``, for commands that only show them and for the next forecast. No network runs here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.rounds.trained_models import Training
from nnunet_active.util.atomic import write_json
from nnunet_active.util.state_file import read_remade_json

if TYPE_CHECKING:
    from nnunet_active.data.cases import CaseStore
    from nnunet_active.query.score_cache import ScoreCache

FORECAST_FILE = "forecast.json"


@dataclass(frozen=True)
class Moved:
    """How far predictions moved from one network to the next.

    Attributes:
        distance: mean Jaccard distance over cases and classes; the mean IoU cannot have changed by more.
        cases: number of cases that both networks have predicted.
        labels: number of labels when the earlier network made its forecast.
    """

    distance: float
    cases: int
    labels: int


def forecast_folder(campaign: Campaign) -> Path:
    """The folder of forecast results; it may not exist yet."""
    return campaign.folder / "forecast"


def read_forecast(campaign: Campaign) -> dict[str, Any]:
    """Content of the file; empty if it is missing or damaged (the next forecast writes it anew)."""
    content = read_remade_json(forecast_folder(campaign) / FORECAST_FILE)
    whole = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("sentences", "networks"))
    return content if whole else {}


def write_forecast(campaign: Campaign, content: dict[str, Any], digest: str) -> None:
    """Save a forecast, with the list of networks that made this one and the earlier ones."""
    networks = [one for one in earlier_networks(campaign) if one["digest"] != digest]
    labels = len(campaign.labelled())
    write_json(
        forecast_folder(campaign) / FORECAST_FILE,
        {
            **content,
            "time": time.time(),
            "labelled": campaign.labels_by_name(),
            "networks": [*networks, {"digest": digest, "labels": labels}],
        },
    )


def forecast_sentences(campaign: Campaign, trainings: Iterable[Training]) -> list[str]:
    """The last forecast in a few sentences, for people; empty if there is none.

    Args:
        campaign: opened.
        trainings: the campaign's trainings. If one of the fold has ended since the forecast, only a note says that the forecast is
            outdated. If only labels have arrived since, a sentence about them is added.
    """
    content = read_forecast(campaign)
    if not content:
        return []
    ended = [one.saved for one in trainings if one.finished and one.fold == campaign.fold]
    if max(ended, default=0.0) > content.get("time", float("inf")):
        return ["The last forecast is older than the latest training; nnunet_active forecast makes a new one."]
    sentences = [str(sentence) for sentence in content["sentences"]]
    if sorted(content.get("labelled", [])) != sorted(campaign.labels_by_name()):
        sentences.append("That forecast is older than the latest labels; nnunet_active forecast makes a new one.")
    return sentences


def earlier_networks(campaign: Campaign) -> list[dict[str, Any]]:
    """``digest`` and ``labels`` (number of labels then) of the networks that made forecasts, oldest first."""
    found = read_forecast(campaign).get("networks", [])
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("digest"), str)]


def moved_since(
    earlier: Sequence[dict[str, Any]],
    digest: str,
    cache: ScoreCache,
    store: CaseStore,
    pool: Sequence[str],
    classes: int,
) -> Moved | None:
    """How far a network's predictions lie from those of the latest other network that made a forecast, for cases cached by both."""
    from nnunet_active.scoring.packed_prediction import class_distances, unpack  # not above: importing NumPy is slow

    before = [one for one in earlier if one["digest"] != digest]
    if not before:
        return None
    distances = []
    for case in pool:
        entries = [
            cache.get(one, case, store.image_state(case), ["prediction"]) for one in (before[-1]["digest"], digest)
        ]
        packed = [entry.arrays.get("prediction") for entry in entries if entry is not None]
        if len(packed) == 2 and all(one is not None for one in packed):
            distances.append(float(class_distances(*map(unpack, packed), classes).mean()))
    labels = before[-1].get("labels", 0)
    return Moved(sum(distances) / len(distances), len(distances), labels) if distances else None
