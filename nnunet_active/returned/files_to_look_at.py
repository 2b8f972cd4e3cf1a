"""Lists the files that may hold returned labels: in the hand-off folders and ``labelsTr``, or in folders that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_active.annotation.mitk_tasks import case_of_interim, says_accepted
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.label_reader import find_label_files
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.returned.astray import advice_on_astray, astray_labels
from nnunet_active.returned.ingest_report import IngestReport


def files_to_look_at(
    campaign: Campaign, raw: RawDataset, folders: Sequence[Path], report: IngestReport
) -> dict[str, list[Path]]:
    """Files that are named after a case, by case.

    Args:
        campaign: opened.
        raw: its data set.
        folders: folders to search at any depth; empty for the campaign's hand-off folders, and ``labelsTr`` without folders in it.
        report: gets missing folders, files that nobody has accepted yet, files that belong to no case, and labels of waiting cases
            that lie in a hand-off folder under another name.
    """
    known = dict.fromkeys([*raw.cases, *raw.problems, *campaign.requested()])
    found: dict[str, list[Path]] = {}
    astray: dict[str, list[Path]] = {}
    waiting = campaign.waiting()
    own = raw.folder / "labelsTr"
    for folder in folders or [*_handoff_folders(campaign, report), own]:
        here, others = find_label_files(folder, known, raw.file_ending)
        if folder == own:  # nnU-Net reads no folder in it either
            here = {case: kept for case, files in here.items() if (kept := [one for one in files if one.parent == own])}
        for case, files in here.items():
            found.setdefault(case, []).extend(file for file in files if file not in found.get(case, []))
        interim = {file: case for file in others if (case := case_of_interim(file)) in known}
        for file, case in interim.items():
            if case in waiting and not any(says_accepted(one, case) for one in here.get(case, ())):
                report.warn(case, f"Case {case}: {file} is not accepted in MITK yet, so that it is not taken.")
        strangers = [file for file in others if file not in interim]
        lost = {case: files for case, files in astray_labels(strangers).items() if case in waiting}
        for case, files in lost.items():
            astray.setdefault(case, []).extend(file for file in files if file not in astray.get(case, []))
        if folders:
            report.unknown += [str(file) for file in strangers if not any(file in files for files in lost.values())]
    for case, files in astray.items():
        report.astray[case] = f"Case {case}: {advice_on_astray(case, files, raw.file_ending)}."
    return found


def _handoff_folders(campaign: Campaign, report: IngestReport) -> list[Path]:
    waiting, folders = set(campaign.waiting()), []
    for one in campaign.rounds:
        folder = campaign.handoff_folder(one.number)
        if folder is not None and folder.is_dir():
            folders.append(folder)
        elif folder is not None and waiting.intersection(one.requested):
            report.notes.append(
                f"The hand-off folder of round {one.number} ({folder}) is not there any more; name its new place with --from."
            )
    return list(dict.fromkeys(folders))
