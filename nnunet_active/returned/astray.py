"""Finds labels that lie in a hand-off folder under a name that is not their case's, so that nobody would take them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nnunet_active.annotation.records import HANDOFF_FILE, file_sha256, read_handoff
from nnunet_active.data.file_endings import label_stems
from nnunet_active.util.errors import MissingInput


def astray_labels(files: Iterable[Path]) -> dict[str, list[Path]]:
    """For each case, the files that somebody may have saved as its label: in its folder, or beside it with its name in front.

    Args:
        files: files in a label format that have no case's name; those outside hand-off folders are left out, and so are those that
            were handed out, and unchanged copies of the prediction.
    """
    cases_of, found = cache(_cases_of), {}
    for file in files:
        folder = next((one for one in file.parents if (one / HANDOFF_FILE).is_file()), None)
        entries = {} if folder is None else cases_of(folder)
        case = _case_of(file, folder, entries) if entries else None
        if case is not None and not _was_handed_out(file, folder, entries[case]):
            found.setdefault(case, []).append(file)
    return found


def advice_on_astray(case: str, files: Sequence[Path], ending: str) -> str:
    """Which files of a case are not taken, and under which name the label would be.

    Args:
        case: identifier.
        files: at least one, of :func:`astray_labels`.
        ending: the data set's own file ending.
    """
    name = unicodedata.normalize("NFC", files[0].name)
    target = files[0].parent / f"{case}{name[len(label_stems(name, ending)[0]) :]}"
    if len(files) == 1:
        return f"{files[0]} is not named after the case; if it is the label of the case, save it as {target}, otherwise move it away"
    named = ", ".join(map(str, files))
    return f"{named} are not named after the case; save the label of the case as {target}, and move away what is none"


def _cases_of(folder: Path) -> dict[str, Any]:
    try:
        return read_handoff(folder)["cases"]
    except MissingInput:
        return {}


def _case_of(file: Path, folder: Path, entries: Mapping[str, Any]) -> str | None:
    within = file.relative_to(folder).parts
    if len(within) > 1:
        case = unicodedata.normalize("NFC", within[0])
        return case if case in entries else None
    # no letter or digit may follow: a_1 is not the case of a_10.nii.gz
    name = unicodedata.normalize("NFC", file.name)
    begun = [case for case in entries if name.startswith(case) and not name[len(case) :][:1].isalnum()]
    return max(begun, key=len, default=None)


def _was_handed_out(file: Path, folder: Path, entry: Mapping[str, Any]) -> bool:
    images = entry.get("images", [])
    handed = [*entry.values(), *(image.get("file") for image in images if isinstance(image, dict))]
    if file.relative_to(folder).as_posix() in handed:
        return True
    copies = entry.get("label_sha256"), entry.get("segmentation_sha256")
    return file_sha256(file) in copies
