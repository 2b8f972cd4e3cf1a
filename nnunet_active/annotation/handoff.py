"""The hand-off folder: one folder per requested case, and what the annotator's programs need to open them.

For each case, it writes the archive first (see ``archive``), then the case's folder in one step, then its entry in ``handoff.json``. So
after a kill, each case is either complete or not there, and the same call goes on. An existing case is not changed; only missing files
are written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from nnunet_active.annotation.archive import Archive
from nnunet_active.annotation.case_folder import CaseFolder
from nnunet_active.annotation.itksnap import label_descriptions
from nnunet_active.annotation.label_colours import Label, labels_of
from nnunet_active.annotation.mitk_tasks import TASK_LIST, write_task_list
from nnunet_active.annotation.records import FORMAT, HANDOFF_FILE, HandoffCase, HandoffReport, read_handoff
from nnunet_active.annotation.worklist import write_case_list, write_readme, write_worklist
from nnunet_active.data.dataset_json import distinct_channel_names
from nnunet_active.data.label_definitions import IGNORE
from nnunet_active.data.maps import map_ending
from nnunet_active.util.atomic import atomic_folder, sweep, write_json, write_text
from nnunet_active.util.errors import ActiveError, BadCase, MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.outputs import begins_with, check_output_folder
from nnunet_active.util.sentences import one_sentence

_FILES = ("README.txt", "worklist.csv", "labels_itksnap.txt", "open_in_slicer.py", "cases.csv", TASK_LIST)


def write_handoff(
    folder: Path,
    cases: Sequence[HandoffCase],
    archive: Archive,
    copy_images: bool = False,
    log: Log = print,
    *,
    fold: str = "0",
    round_number: int | None = None,
) -> HandoffReport:
    """Write or complete a hand-off folder. Cases from an earlier call stay in it, with their entries.

    Args:
        folder: target folder; created if it does not exist.
        cases: cases to hand over; ``worklist.csv`` lists them.
        archive: the untouched predictions and uncertainty maps; all cases must be in its store.
        copy_images: copy the images instead of linking to them, for a folder that is sent elsewhere.
        log: gets warnings.
        fold: the campaign's fold, written into ``handoff.json``.
        round_number: the campaign's round, written into ``handoff.json``.

    Returns:
        The report. A case that cannot be handed over is in its ``problems``; the others are still written.

    Raises:
        MissingInput: ``handoff.json`` exists but cannot be used.
    """
    folder = Path(folder).absolute()
    check_output_folder(folder, _is_handoff, _FILES, "a hand-off folder")
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, archive.folder):
        sweep(place)  # left by killed runs
    report = HandoffReport(folder)
    labels = labels_of(archive.dataset_json)
    if any(case.asked for case in cases):  # drawn, the ignore value would cover all slices but the requested ones
        labels = [replace(label, visible=label.name != IGNORE) for label in labels]
    channels = distinct_channel_names(archive.dataset_json)
    content = _content(folder, archive.store.dataset_folder.name, fold, round_number, archive.ending, labels)
    for case in sorted(cases, key=lambda one: one.rank):
        name = case.raw.identifier
        place = CaseFolder(folder, case, channels, labels, archive)
        try:
            entry = _hand_over(place, archive, content["cases"].get(name), copy_images, round_number, report)
        except (ActiveError, OSError) as error:
            said = one_sentence(error)[0]
            problem = said if isinstance(error, ActiveError) else f"Case {name} is not handed over: {said}"
            report.problems[name] = problem
            log(f"WARNING: {problem}")
            continue
        if content["cases"].get(name) != entry:
            content["cases"][name] = entry
            write_json(folder / HANDOFF_FILE, content)
    write_json(folder / HANDOFF_FILE, content)
    columns = write_worklist(folder, cases, content["cases"])
    write_case_list(folder, cases, content["cases"])
    name = content["dataset"] + (f", round {round_number}" if round_number else "")
    write_task_list(folder, cases, content["cases"], name)
    drawn = any(case.drawn for case in cases)
    write_readme(folder, content, channels, map_ending(archive.ending), columns, drawn)
    write_text(folder / "labels_itksnap.txt", label_descriptions(labels))
    script = resources.files("nnunet_active.annotation").joinpath("open_in_slicer.py").read_text(encoding="utf-8")
    write_text(folder / "open_in_slicer.py", script)
    return report


def _is_handoff(folder: Path) -> bool:
    return (folder / HANDOFF_FILE).is_file() or begins_with("Scans to label: data set")(folder / "README.txt")


def _content(
    folder: Path, dataset: str, fold: str, round_number: int | None, ending: str, labels: Sequence[Label]
) -> dict[str, Any]:
    """Content of ``handoff.json`` with updated general entries; the entries of its cases are kept."""
    there = read_handoff(folder) if (folder / HANDOFF_FILE).is_file() else {"cases": {}}
    if there["cases"] and there.get("dataset") != dataset:
        raise MissingInput(
            f"{folder} is the hand-off folder of {there.get('dataset')}, not of {dataset}; name another folder."
        )
    return {
        "format": FORMAT,
        "dataset": dataset,
        "fold": str(fold),
        "round": round_number,
        "file_ending": ending,
        "labels": [{"value": one.value, "name": one.name, "colour": list(one.colour)} for one in labels],
        "cases": there["cases"],
    }


def _hand_over(
    place: CaseFolder,
    archive: Archive,
    known: dict[str, Any] | None,
    copy_images: bool,
    round_number: int | None,
    report: HandoffReport,
) -> dict[str, Any]:
    """Hand over one case; returns its entry in ``handoff.json``."""
    raw = place.case.raw
    entry = place.read_record(known)
    if place.folder.is_dir() and entry is not None:
        edited = place.is_edited(entry)
        place.check_image(edited)
        place.place_images(place.folder, copy_images)
        place.complete(lambda: archive.get(raw), entry)
        (report.edited if edited else report.untouched).append(place.name)
        return entry
    if place.folder.exists():
        raise BadCase(
            f"Case {place.name} is not handed over: {place.folder} is there, but was not made by a hand-off; move it away."
        )
    archived = archive.get(raw)
    with atomic_folder(place.folder) as temporary:
        place.place_images(temporary, copy_images)
        entry = place.write(temporary, archived, round_number)
    report.written.append(place.name)
    return entry
