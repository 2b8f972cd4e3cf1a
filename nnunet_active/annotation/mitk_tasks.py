"""The file for MITK: a Segmentation Task List with one task per case. In MITK, Accept saves the task's result, changed or not.

The list uses version 1 of the format, which every MITK with task lists reads. A task shows one image: the channel to open first. The
result goes to a separate folder, and the task is done once the result is there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_active.annotation.records import HandoffCase
from nnunet_active.util.atomic import write_json

TASK_LIST = "mitk_tasks.json"
ACCEPTED = "accepted"  # in the case's folder; a person has checked every file in it
_INTERIM = ".interim"  # MITK puts this before the file ending of a result that is not accepted yet


def says_accepted(file: Path, case: str) -> bool:
    """Whether a label file lies in ``CASE/accepted``, where only accepted files lie.

    >>> says_accepted(Path("handoff/a/accepted/a.nrrd"), "a"), says_accepted(Path("accepted/a.nrrd"), "a")
    (True, False)
    """
    return file.parent.name == ACCEPTED and unicodedata.normalize("NFC", file.parent.parent.name) == case


def case_of_interim(file: Path) -> str | None:
    """The case of a file that MITK saved before anybody accepted it; None for any other file.

    >>> case_of_interim(Path("handoff/a/accepted/a.interim.nrrd"))
    'a'
    """
    case, mark, _ = unicodedata.normalize("NFC", file.name).rpartition(_INTERIM)
    return case if mark and says_accepted(file, case) else None


def write_task_list(
    folder: Path, cases: Sequence[HandoffCase], entries: Mapping[str, dict[str, Any]], name: str
) -> None:
    """Write ``mitk_tasks.json``, in the order of rank.

    Args:
        folder: the hand-off folder; the list's paths are relative to it.
        cases: cases of the worklist.
        entries: their entries in ``handoff.json``.
        name: name of the list.
    """
    ranked = [case.raw.identifier for case in sorted(cases, key=lambda one: one.rank)]
    tasks = [_task(case, entries[case]) for case in ranked if case in entries]
    write_json(
        folder / TASK_LIST, {"FileFormat": "MITK Segmentation Task List", "Version": 1, "Name": name, "Tasks": tasks}
    )


def _task(case: str, entry: Mapping[str, Any]) -> dict[str, str]:
    images = {image["channel"]: image["file"] for image in entry["images"]}
    return {
        "Name": case,
        "Description": _description(entry),
        "Image": images.get(entry["open_first"]) or next(iter(images.values())),
        "Segmentation": entry["segmentation_file"],
        "Result": f"{case}/{ACCEPTED}/{case}.nrrd",
    }


def _description(entry: Mapping[str, Any]) -> str:
    asked = entry.get("asked")
    if asked:
        return f"Label only the slices {', '.join(map(str, asked['slices']))} along {asked['axis']} (from 1)."
    look = "; ".join(f"{plane} {', '.join(map(str, where))}" for plane, where in entry["slices"].items() if where)
    return f"This is {entry['open_first']}." + (f" Look first at the slices (from 1): {look}." if look else "")
