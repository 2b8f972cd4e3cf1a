"""The card of one requested case: why it was chosen, where to look, and the slices asked for or through its most uncertain place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_active.annotation.image_record import is_of_these, record_file
from nnunet_active.annotation.slices_to_check import WorthLooking, worth_looking
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.maps import map_ending
from nnunet_active.data.plans import configuration_if_planned
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.query.query_tables import open_first_words, stands_out
from nnunet_active.report import slices
from nnunet_active.report.ranking import as_text
from nnunet_active.report.volumes import Volume, read_channels, read_map
from nnunet_active.rounds.explanation import explain_choice
from nnunet_active.rounds.labels_at_hand import handoff_content
from nnunet_active.rounds.round_table import Query
from nnunet_active.util.errors import BadCase

TALLEST = 1.3
"""Height of the tallest picture, relative to the column width."""
MOST_SLICES = 3
"""Of the slices that are asked for, most that the card shows."""
_TILTED = 5.0  # degrees; a smaller tilt is not worth a sentence


def case_card(
    campaign: Campaign,
    query: Query,
    case: str,
    raw: RawDataset,
    plans: dict,
    pictures: bool = True,
    handed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that the page shows about one case.

    Args:
        campaign: an opened campaign.
        query: the round that asked for the case.
        case: identifier.
        raw: the data set with its images.
        plans: content of the plans file.
        pictures: False leaves the images out.
        handed: the cases in the round's hand-off folder; None to read them here.

    Returns:
        ``case``, ``status``, ``open_first``, ``facts`` (sentences), ``notes`` (what is missing), ``factors`` and ``scores`` (see
        :func:`~nnunet_active.rounds.explanation.explain_choice`); with pictures also ``views``, ``channels`` and ``legend``.
    """
    known = explain_choice(query, case) or {}
    election = known.get("open_first") or {}
    choice = known.get("slices")
    asked = SliceRequest(choice["axis"], tuple(choice["slices"])) if choice else None
    card: dict[str, Any] = {
        "case": case,
        "round": query.number,
        "status": campaign.status_of(case),
        "open_first": election["name"] if stands_out(election) else "",
        "facts": [
            *_why(known, query),
            *([f"Label {asked.words()}{_plane(asked, raw, case)}, counted from 1."] if asked else ()),
            *([open_first_words(election)] if election and len(raw.channel_names) > 1 else ()),
            *_volumes(query, case, carries_geometry(raw.file_ending), " in the whole scan" if asked else ""),
        ],
        "notes": [],
        "factors": known.get("factors", []),
        "scores": known.get("scores", []),
        "views": [],
        "channels": [],
        "legend": [],
    }
    if case in campaign.declined:
        card["facts"].append(f"Declined: {campaign.declined[case] or 'no reason was given'}.")
    if asked is None:  # two lists of slices would contradict each other
        handed = handoff_content(campaign.handoff_folder(query.number)) if handed is None else handed
        card["facts"] += _look_first(handed, case)
    if not pictures:
        return card
    if case not in raw.cases:
        card["notes"].append(raw.problems.get(case, f"The images of {case} were not found in {raw.name}."))
        return card
    try:
        _add_pictures(card, campaign, query.number, raw, plans, asked)
    except BadCase as error:
        card["notes"].append(f"Pictures are missing: {error}")
    return card


def _add_pictures(
    card: dict[str, Any], campaign: Campaign, number: int, raw: RawDataset, plans: dict, asked: SliceRequest | None
) -> None:
    case = card["case"]
    views: list[slices.View] = []
    shape: tuple[int, ...] = ()
    several = len(raw.channel_names) > 1
    windows = ct_windows(plans, campaign.configuration)
    archive = campaign.predictions_folder(number)
    if not is_of_these(record_file(archive, case), raw.cases[case].images):
        card["notes"].append("The image was replaced after its prediction, which is drawn as it was.")
    for index, channel in enumerate(read_channels(raw.cases[case].images, plans)):
        if not views:
            prediction, uncertainty = _maps(card, archive, raw.file_ending, channel, plans)
            if asked is not None:
                views = slices.views_of_slices(channel, asked.axis, asked.slices[:MOST_SLICES])
            else:
                views = slices.make_views(channel, _place(card, channel, prediction, uncertainty))
            longest = max(max(view.size_mm[1], view.size_mm[0] / TALLEST) for view in views)
            card["views"] = [_view(view, longest, prediction, uncertainty, raw.dataset_json) for view in views]
            card["legend"] = list(dict.fromkeys(name for view in card["views"] for name in view["outlines"]))
            if channel.tilt > _TILTED:
                card["notes"].append(
                    f"The scan is tilted by up to {channel.tilt:.0f} degrees; the slices follow its own axes, and the letters name the "
                    f"nearest side."
                )
            shape = channel.voxels.shape
        elif channel.voxels.shape != shape:
            raise BadCase(f"the channels of {case} differ in shape.")
        window = windows.get(index) or slices.grey_window(channel.voxels)
        name = raw.channel_names[index] if index < len(raw.channel_names) else f"channel {index}"
        first = several and name == card["open_first"]
        planes = [slices.grey_picture(view.cut(channel.voxels), window) for view in views]
        card["channels"].append({"name": name, "first": first, "pictures": planes})
    card["channels"].sort(key=lambda channel: not channel["first"])


def _place(
    card: dict[str, Any], channel: Volume, prediction: Volume | None, uncertainty: Volume | None
) -> tuple[int, ...]:
    """The place where the slices meet; adds the sentence that explains it to the card."""
    found = _most_uncertain(prediction, uncertainty)
    if found is not None and found.nats > 0:
        place = found.voxel[::-1]
        words = f"The slices meet where the network is least certain ({found.nats:.2f} nats on average around it): "
    elif prediction is not None and (place := slices.largest_section(prediction.voxels)):
        words = "No uncertainty is known, so the slices meet in the largest section of the prediction: "
    else:
        place = tuple(length // 2 for length in channel.voxels.shape)
        nothing = "" if prediction is None else "Nothing is predicted: "
        words = f"{nothing}{'t' if nothing else 'T'}he slices meet in the middle, "
    i, j, k = (index + 1 for index in channel.file_index(place))
    sentence = f"{words}voxel ({i}, {j}, {k}), counted from 1"
    position = channel.patient_position(place)
    if position is not None:
        parts = [f"{pair[int(mm < 0)]} {abs(mm):.0f}" for mm, pair in zip(position, ("LR", "PA", "SI"), strict=True)]
        sentence += f"; {', '.join(parts)} mm in 3D Slicer"
    card["facts"].append(sentence + ".")
    return place


def _most_uncertain(prediction: Volume | None, uncertainty: Volume | None) -> WorthLooking | None:
    """The most uncertain place, where the hand-off folder opens the case, too; without a prediction, anywhere in the scan."""
    if uncertainty is None:
        return None
    known = np.nan_to_num(uncertainty.voxels, posinf=0, neginf=0).astype(np.float32)
    predicted = np.zeros(known.shape, dtype=np.uint8) if prediction is None else prediction.voxels
    return worth_looking(predicted, known, uncertainty.spacing[::-1], count=0)


def _view(
    view: slices.View,
    longest: float,
    prediction: Volume | None,
    uncertainty: Volume | None,
    dataset_json: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "name": view.name,
        "caption": view.caption,
        "number": view.number,
        "letters": view.letters,
        "rows": view.shape[0],
        "columns": view.shape[1],
        "height_mm": view.size_mm[0],
        "width_mm": view.size_mm[1],
        "share": round(100 * view.size_mm[1] / longest, 1),  # all views of a case have the same scale
        "strip": view.strip,
        "mark": view.mark,
        "uncertainty": None if uncertainty is None else slices.uncertainty_picture(view.cut(uncertainty.voxels)),
        "outlines": {} if prediction is None else slices.outlines(view.cut(prediction.voxels), dataset_json["labels"]),
    }


def ct_windows(plans: dict, configuration: str) -> dict[int, tuple[float, float]]:
    """Window (black, white) of each CT-normalised channel: the foreground's range, extended by half of it on either side."""
    schemes = configuration_if_planned(plans, configuration).get("normalization_schemes", [])
    known = plans.get("foreground_intensity_properties_per_channel", {})
    windows = {}
    for index, scheme in enumerate(schemes):
        range_ = known.get(str(index), {})
        if scheme == "CTNormalization" and {"percentile_00_5", "percentile_99_5"} <= set(range_):
            low, high = float(range_["percentile_00_5"]), float(range_["percentile_99_5"])
            windows[index] = (low - (high - low) / 2, high + (high - low) / 2)
    return windows


def _maps(
    card: dict[str, Any], archive: Path, ending: str, channel: Volume, plans: dict
) -> tuple[Volume | None, Volume | None]:
    """Archived prediction and uncertainty map of a case; the card notes what is missing or does not fit."""
    names = {
        "prediction": f"{card['case']}{ending}",
        "uncertainty map": f"{card['case']}_uncertainty{map_ending(ending)}",
    }
    if not any((archive / name).is_file() for name in names.values()):
        annotate = (
            "The prediction has not been written yet; nnunet_active annotate does that, and makes the hand-off folder."
        )
        without = "What the network predicted was not kept for this case, so the slices show the image alone."
        card["notes"].append(annotate if card["status"] == "waiting" else without)
        return None, None
    found: list[Volume | None] = []
    for what, name in names.items():
        found.append(None)
        try:
            volume = read_map(archive / name, plans, turn=channel.affine is not None)
        except BadCase as error:
            card["notes"].append(str(error))
            continue
        if volume.voxels.shape == channel.voxels.shape:
            found[-1] = volume
        else:
            card["notes"].append(
                f"The {what} has the shape {volume.voxels.shape} and the image {channel.voxels.shape}; it is not drawn."
            )
    return found[0], found[1]


def _why(known: Mapping[str, Any], query: Query) -> list[str]:
    if "utility" not in known:
        return [f"Asked for in round {query.number}."]
    order = f"choice {known['position']} of {known['asked_for']}" if known["asked_for"] > 1 else "the only choice"
    words = f"Asked for in round {query.number} ({order}) by the strategy {known['strategy']}"
    if known["must_include"]:
        return [f"{words}, because the user named it."]
    if known["drawn"]:
        chance = next((factor["value"] for factor in known["factors"] if factor["name"] == "probability"), None)
        return [f"{words}, which drew it{'' if chance is None else f' with probability {as_text(chance)}'}."]
    if known["utility"] is None:
        return [words + "."]
    rank = known["utility_rank"]
    place = "the highest" if rank == 1 else f"number {rank}"
    return [f"{words}: utility {as_text(known['utility'])}, {place} of {known['candidates']} at the start."]


def _plane(asked: SliceRequest, raw: RawDataset, case: str) -> str:
    """The anatomical plane of the requested slices, in brackets; empty if the image does not say it."""
    if case not in raw.cases or not carries_geometry(raw.file_ending):
        return ""
    try:
        planes = Geometry.of_file(raw.cases[case].images[0]).planes()
    except (RuntimeError, ValueError, OSError):  # the pictures say that the image cannot be read
        return ""
    return f" ({planes['xyz'.index(asked.axis)]})"


def _volumes(query: Query, case: str, metric: bool, where: str) -> list[str]:
    row = query.scores.loc[case]
    voxels, mm3 = row.get("foreground_voxels"), row.get("foreground_mm3")
    if voxels is None or not np.isfinite(voxels):
        return []
    if not voxels:
        return ["The network finds nothing in this case."]
    # the voxels were counted on the preprocessed grid
    each, digits, unit = (mm3 / voxels / 1000, 1, "cm³") if metric and mm3 is not None else (1, 0, "pixels")
    classes = {n.removeprefix("voxels_"): row[n] for n in row.index if n.startswith("voxels_") and np.isfinite(row[n])}
    if len(classes) < 2:
        return [f"Predicted{where}: {voxels * each:.{digits}f} {unit}."]
    return [
        f"Predicted{where}: {', '.join(f'{name} {value * each:.{digits}f}' for name, value in classes.items())} {unit}."
    ]


def _look_first(handed: Mapping[str, Any], case: str) -> list[str]:
    """The slices that the hand-off folder recommends, if it can be read."""
    entry = handed.get(case) or {}
    wanted = entry.get("slices")
    if not isinstance(wanted, Mapping):
        return []
    parts = [
        f"{axis} {', '.join(map(str, places)) if isinstance(places, (list, tuple)) else places}"
        for axis, places in wanted.items()
        if places not in (None, [], "")
    ]
    return [f"Slices worth looking at first, counted from 1: {'; '.join(parts)}."] if parts else []
