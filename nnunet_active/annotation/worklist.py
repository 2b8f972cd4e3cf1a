"""Writes ``worklist.csv`` and ``README.txt`` of a hand-off folder for people, and ``cases.csv`` for modules of 3D Slicer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_active.annotation.records import HandoffCase
from nnunet_active.commands import Commands
from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.label_definitions import IGNORE
from nnunet_active.util.atomic import write_text
from nnunet_active.util.tables import write_csv

_README = """\
Scans to label: data set {dataset}{round}
{underline}
{cases}: see worklist.csv. Each case has a folder of its own:

  CASE/CASE_0000{ending} ...      the images, one per channel ({channels})
  CASE/CASE{ending}               what the network predicts: correct this file, or replace it
  CASE/CASE.seg.nrrd{pad}the same prediction as a 3D Slicer segmentation: correct this one instead, if you use 3D Slicer
  CASE/CASE_uncertainty{map_ending}  how unsure the network is, voxel by voxel (entropy in nats; 0 is certain, {coin} a coin toss)

Labels: {labels}.

3D Slicer   Slicer --python-script open_in_slicer.py
            opens case by case at {place}, with the labels' names and colours; Ctrl+Shift+N saves and goes on.
            SlicerCaseIterator and CART read cases.csv. In CART, this folder is the data path; let it save NRRD files.
{itksnap}MITK        open mitk_tasks.json. Accept saves CASE/accepted/CASE.nrrd, and what you accept unchanged counts as checked.
Others      open the images and CASE/CASE{ending} as the segmentation.

Save in the place where the file was. One of the two label files of a case is enough. You may stop at any time: what is finished can
be taken in, the rest stays on the list:

  {ingest}

A prediction that needs no change has to be confirmed: there (--accept-unchanged CASE), or by a copy of it in CASE/accepted, where
MITK's Accept puts it; a file nobody has touched does not count as a label. Slices in worklist.csv count from 1, as in ITK-SNAP
(3D Slicer and most libraries count from 0).
"""

_SLICES = """\

ONLY SOME SLICES of each scan are to be labelled: the columns axis and slices of worklist.csv name them (x, y, z: first, second, third
axis of the file). Label everything in these slices; an empty slice means that nothing is there. A slice that you leave as predicted
has to be confirmed, too.
In CASE/CASE{ending} all other slices hold the value {ignore} ("ignore"), which ITK-SNAP does not draw; leave them. Slices that you
labelled before are there too, and may be corrected. CASE/CASE_prediction{ending} is the prediction in all slices, to look at: what is
drawn there is not taken in.
"""

_COLUMNS = {
    "rank": "place in the list",
    "case": "name of the case and of its folder",
    "open_first": "channel to look at first",
    "label_file": "file to correct",
    "axis": "axis of the file along which the slices to label lie",
    "slices": "slices to label",
    "round": "number of the round that asked for the case",
    "strategy": "how the cases of the round were chosen",
    "utility": "what the strategy ranks by; the higher, the earlier it is asked for",
    "probability": "chance with which the case was drawn",
    "foreground_mm3": "volume of all that is predicted in the whole scan, in mm³",
    "mean_entropy": "how unsure the network is, mean over all voxels of the scan (nats)",
    "minutes": "minutes that an expert is expected to need",
    "objects": "number of separate objects that are predicted",
    "note": "what to beware of",
}
_VOLUME, _VOLUME_WORDS = "predicted_cm3_", "volume that is predicted in the whole scan, label by label, in cm³"
_PIXELS, _PIXELS_WORDS = "predicted_pixels_", "number of pixels that are predicted, label by label"
_LOOK, _LOOK_WORDS = "_slices", "slices to look at first, most uncertain first"

_ITKSNAP = """\
ITK-SNAP    open CASE/CASE.itksnap. The segmentation is CASE/CASE{ending}: save it under that name.
            If the labels have no names, load labels_itksnap.txt: Segmentation, Import Label Descriptions.
"""


def write_worklist(folder: Path, cases: Sequence[HandoffCase], entries: Mapping[str, dict[str, Any]]) -> list[str]:
    """Write ``worklist.csv``: one row per case, in order of rank. Returns its columns."""
    rows = []
    for case in sorted(cases, key=lambda one: one.rank):
        entry = entries.get(case.raw.identifier)
        if entry is None:
            continue
        row: dict[str, Any] = {
            "rank": case.rank,
            "case": case.raw.identifier,
            "open_first": case.open_first,
            "label_file": entry["label_file"],
        }
        if "asked" in entry:
            row |= {"axis": entry["asked"]["axis"], "slices": " ".join(map(str, entry["asked"]["slices"]))}
        else:
            row |= {f"{plane}{_LOOK}": " ".join(map(str, found)) for plane, found in entry["slices"].items()}
        metric = carries_geometry(entry["label_file"])
        column, unit, digits = (_VOLUME, 1000, 3) if metric else (_PIXELS, 1, None)
        row |= {f"{column}{name}": round(mm3 / unit, digits) for name, mm3 in entry["volumes_mm3"].items()}
        left_out = {*row} if metric else {*row, "foreground_mm3"}
        row |= {name: value for name, value in case.facts.items() if name not in left_out}
        if entry.get("channels_apart"):
            row["note"] = f"the channels do not lie on one grid: {entry['channels_apart']}"
        rows.append(row)
    table = pd.DataFrame(rows)
    write_csv(folder / "worklist.csv", table)
    return list(table.columns)


def write_case_list(folder: Path, cases: Sequence[HandoffCase], entries: Mapping[str, dict[str, Any]]) -> None:
    """Write ``cases.csv`` for two modules of 3D Slicer, in order of rank; paths are relative to the folder.

    SlicerCaseIterator reads the columns ``ID``, ``path``, ``image`` and ``mask``. CART reads ``uid`` and recognises the others by
    their suffixes; it names what it saves after the reference volume and ``label``.
    """
    rows = []
    for case in sorted(cases, key=lambda one: one.rank):
        name = case.raw.identifier
        if name not in entries:
            continue
        entry = entries[name]
        # a spreadsheet does not take a path that begins with a dot for a formula
        images = {image["channel"]: f"./{image['file']}" for image in entry["images"]}
        first = images.pop(entry["open_first"], None) or images.pop(next(iter(images)))
        segmentation = f"./{entry['segmentation_file']}"
        row = {"uid": name, "ID": name, "path": ".", "image": first, "mask": segmentation, "volume_reference": first}
        row |= {f"{channel}_volume": file for channel, file in images.items()}
        rows.append(
            {**row, "uncertainty_volume": f"./{entry['uncertainty_file']}", "label_segmentation_editable": segmentation}
        )
    write_csv(folder / "cases.csv", pd.DataFrame(rows))


def write_readme(
    folder: Path,
    content: Mapping[str, Any],
    channels: Sequence[str],
    map_ending: str,
    columns: Sequence[str] = (),
    drawn: bool = False,
) -> None:
    """Write ``README.txt``, for people who open the folder without knowing where it came from.

    Args:
        folder: the hand-off folder.
        content: of its ``handoff.json``.
        channels: their names.
        map_ending: file ending of the uncertainty maps.
        columns: the columns of ``worklist.csv``, which are explained.
        drawn: whether the cases were drawn by chance, so that none is more useful than the next.
    """
    ending, number = content["file_ending"], content["round"]
    dataset = content["dataset"]
    ignore = next((label["value"] for label in content["labels"] if label["name"] == IGNORE), "")
    in_slices = any("asked" in entry for entry in content["cases"].values())
    order = "in the order in which they were drawn" if drawn else "the most useful first"
    count = len(content["cases"])
    text = _README.format(
        dataset=dataset,
        ingest=Commands(dataset, "", fold=content["fold"]).ingest("--from", "THIS_FOLDER"),
        round=f", round {number}" if number else "",
        underline="=" * 60,
        cases="1 case" if count == 1 else f"{count} cases, {order}",
        place="the first slice to label" if in_slices else "the most uncertain place",
        ending=ending,
        itksnap=_ITKSNAP.format(ending=ending) if carries_geometry(ending) else "",
        pad=" " * max(2, len(ending) + 6),
        map_ending=map_ending,
        channels=", ".join(channels),
        coin="0.69",
        labels=", ".join(f"{label['value']} {label['name']}" for label in content["labels"]) or "none",
    )
    text += _SLICES.format(ending=ending, ignore=ignore) if in_slices else ""
    write_text(folder / "README.txt", text + _columns_in_words(columns))


def _columns_in_words(columns: Sequence[str]) -> str:
    """What each column of ``worklist.csv`` holds; columns that hold the same kind of thing share a line."""
    said: dict[str, list[str]] = {}
    for name in columns:
        words = _COLUMNS.get(name, "a fact that was noted about the case")
        words = _VOLUME_WORDS if name.startswith(_VOLUME) else _LOOK_WORDS if name.endswith(_LOOK) else words
        words = _PIXELS_WORDS if name.startswith(_PIXELS) else words
        said.setdefault(words, []).append(name)
    lines = [f"  {', '.join(names)}: {words}" for words, names in said.items()]
    return "\n".join(["", "Columns of worklist.csv:", "", *lines, ""]) if lines else ""
