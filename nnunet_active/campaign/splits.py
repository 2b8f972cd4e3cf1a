"""The only writer of ``splits_final.json``. A file that somebody else wrote is backed up before it is changed.

nnU-Net reads ``nnUNet_preprocessed/DatasetXXX/splits_final.json``: a list with one ``{"train": [...], "val": [...]}`` per fold. In the
campaign's fold, ``train`` grows as labels arrive; ``val`` is what the user or nnU-Net decided, and never changes.
A ``splits_final.json`` in the *raw* folder counts as the user's definition of the folds and is never written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_active.data.raw_dataset import check_case_identifier
from nnunet_active.util.atomic import copy_file, write_json, write_text
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.naming import first_names
from nnunet_active.util.state_file import read_checked_json, read_state

FILE_NAME = "splits_final.json"
_WRITTEN = "splits_written.json"  # digests of files and folds that we wrote, to recognise a user's edits
_BACKUP = "splits_before_nnunet_active"


@dataclass
class _Fold:
    train: list[str]
    val: list[str]

    def __post_init__(self) -> None:
        for case in (*self.train, *self.val):
            check_case_identifier(case)


@dataclass(frozen=True)
class FoldDefinition:
    """The training and validation cases of a fold; ``origin`` says where they are defined."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    origin: str


def read_splits(file: Path) -> list[dict[str, list[str]]] | None:
    """Content of a split file, or None if there is none.

    Raises:
        CampaignError: the file is not a list of train/val lists, or a case name in it is not a valid file name.
    """
    if not file.is_file():
        return None
    what = "a split file of nnU-Net's, a list of {'train': [...], 'val': [...]}"
    return read_checked_json(file, list[_Fold], what, "mend it or move it away")


def backups(dataset_folder: Path) -> list[Path]:
    """Backups of the user's split file, oldest first."""
    found = {_number(path): path for path in (dataset_folder / "active").glob(f"{_BACKUP}*.json")}
    return [found[number] for number in sorted(found) if number]


def _number(backup: Path) -> int:
    """Number of a backup: 1, 2, ...; 0 for a file that is not ours."""
    match = re.fullmatch(rf"{_BACKUP}(?:_(\d+))?", backup.stem)
    return int(match[1] or 1) if match else 0


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fold_digest(entry: dict) -> str:
    return _digest(json.dumps([entry["train"], entry["val"]]).encode())


def _written(dataset_folder: Path) -> list[str]:
    file = dataset_folder / "active" / _WRITTEN
    return read_state(file, list[str], "a list of digests") if file.is_file() else []


def check_split_files(dataset_folder: Path) -> None:
    """Check that the split file can be changed, before work begins that must change it in the end.

    Raises:
        CampaignError: the file, a backup or our record of it is damaged.
    """
    _written(dataset_folder)
    for file in (dataset_folder / FILE_NAME, *backups(dataset_folder)):
        read_splits(file)


def edited_by_hand(dataset_folder: Path, folds: Mapping[int, tuple[Iterable[str], Iterable[str]]]) -> str | None:
    """What to tell somebody who has changed a fold that follows the labels; None: nobody has. Nothing is written.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        folds: as :func:`write_folds` takes them; a fold without training cases is not written yet.
    """
    written, current = {*_written(dataset_folder)}, dataset_folder / FILE_NAME
    if not current.is_file() or _is_ours(dataset_folder):
        return None
    splits = read_splits(current)
    told = []
    for index, (train, val) in sorted(folds.items()):
        trained, held = sorted(train), sorted(val)
        if not trained or index >= len(splits) or _fold_digest(splits[index]) in written:
            continue
        if ({*splits[index]["train"]}, {*splits[index]["val"]}) != ({*trained}, {*held} or {*trained}):
            told.append(f"{index} ({len(trained)} to train on, {len(held)} held out)")
    if not told:
        return None
    return (
        f"{current} was changed by hand. The campaign goes on with its own fold {', '.join(told)}, and keeps yours as "
        f"{_BACKUP}_N.json in {dataset_folder / 'active'}; to train on or hold out other cases, begin another campaign with "
        f"nnunet_active init --restart."
    )


def _is_ours(dataset_folder: Path) -> bool:
    current = dataset_folder / FILE_NAME
    return current.is_file() and _digest(current.read_bytes()) in _written(dataset_folder)


def define_fold(
    dataset_folder: Path, fold: str, raw_folder: Path | None = None, generated: list[dict] | None = None
) -> FoldDefinition | None:
    """The training and validation cases of a fold, from the first of these sources that defines it.

    1. ``splits_final.json`` beside the preprocessed data, if a user wrote it; if we changed it, the backup from before
       (also for a fold that we wrote in a file whose other folds a user has edited since);
    2. ``splits_final.json`` in the raw folder;
    3. ``generated``: nnU-Net's own cross-validation, for a dataset in which all cases have labels.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        fold: a number as text; ``"all"`` has no definition.
        raw_folder: ``nnUNet_raw/DatasetXXX``.
        generated: splits to fall back to.

    Returns:
        The definition; None for ``"all"``, or if no source defines the fold.
    """
    if fold == "all":
        return None
    index = int(fold)
    written = set(_written(dataset_folder))
    kept = backups(dataset_folder)
    current = dataset_folder / FILE_NAME
    files = [*([current] if current.is_file() and not _is_ours(dataset_folder) else []), *reversed(kept)]
    sources: list[tuple[str, list[dict] | None]] = []
    for file in files:
        splits = read_splits(file)
        # the oldest file predates our first change, so nothing in it can be ours
        ours = file != files[-1] and index < len(splits) and _fold_digest(splits[index]) in written
        sources.append((file.name, None if ours else splits))
    if raw_folder is not None:
        sources.append((f"{FILE_NAME} of the raw folder", read_splits(raw_folder / FILE_NAME)))
    sources.append(("nnU-Net's 5-fold cross-validation", generated))
    for origin, splits in sources:
        if splits is not None and index < len(splits):
            entry = splits[index]
            return FoldDefinition(tuple(entry["train"]), tuple(entry["val"]), origin)
    return None


def check_can_begin(
    dataset_folder: Path, fold: str, raw_folder: Path, other_folds: list[dict] | None = None
) -> list[dict] | None:
    """Check that a campaign can begin in a fold: it is defined, or follows the last one that is.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        fold: a number as text, or ``"all"``.
        raw_folder: ``nnUNet_raw/DatasetXXX``.
        other_folds: splits to fall back to.

    Returns:
        The splits that :func:`write_folds` begins with: those of the raw folder, which also cover the folds of later campaigns,
        else ``other_folds``.

    Raises:
        CampaignError: it cannot; the message names folds that can.
    """
    others = read_splits(raw_folder / FILE_NAME) or other_folds
    known = len(read_splits(dataset_folder / FILE_NAME) or others or [])
    if fold != "all" and int(fold) > known and define_fold(dataset_folder, fold, raw_folder, other_folds) is None:
        raise CampaignError(f"Nothing defines fold {fold} of {dataset_folder.name}; begin with -f {known} or -f all.")
    return others


def check_names(
    definition: FoldDefinition, fold: str, labelled: Sequence[str], unlabelled: Sequence[str]
) -> tuple[str, ...]:
    """Check that a fold names existing cases: nnU-Net would silently drop a case whose name is misspelt.

    Args:
        definition: the fold.
        fold: its number, for the messages.
        labelled: cases with a label.
        unlabelled: cases without one.

    Returns:
        Warnings about names that match no case, and about labelled cases that the fold does not name.

    Raises:
        CampaignError: no name matches any case.
    """
    named = [*definition.train, *definition.val]
    there = {*labelled, *unlabelled}
    unknown = [name for name in named if name not in there]
    if named and len(unknown) == len(named):
        raise CampaignError(
            f"Fold {fold} in {definition.origin} names {first_names(named)}, but none of them is a case of this data set "
            f"({first_names(sorted(there))}); write case identifiers, without channel number and file ending."
        )
    warnings = []
    if unknown:
        warnings.append(
            f"Fold {fold} in {definition.origin} names {len(unknown)} case(s) that are not there: {first_names(unknown)}."
        )
    if left_out := [case for case in labelled if case not in set(named)]:
        warnings.append(
            f"{len(left_out)} labelled case(s) are neither in train nor in val of fold {fold} in {definition.origin}, so nothing is "
            f"trained on them: {first_names(left_out)}."
        )
    return tuple(warnings)


def write_folds(
    dataset_folder: Path,
    folds: Mapping[int, tuple[Iterable[str], Iterable[str]]],
    other_folds: list[dict] | None = None,
) -> bool:
    """Set some folds in ``splits_final.json`` atomically; the other folds are not changed.

    If a fold has no validation case, ``val`` becomes ``train`` (as nnU-Net does for fold ``all``): stock nnU-Net cannot train without.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        folds: for each fold number, the labelled training cases and the held-out labelled cases.
        other_folds: initial content if the file does not exist yet.

    Returns:
        Whether the file changed.

    Raises:
        CampaignError: folds before these are unknown, so the list would have a gap.
    """
    current = dataset_folder / FILE_NAME
    splits = read_splits(current)
    if splits is None:
        splits = [dict(entry) for entry in other_folds or []]
    entries = []
    for index, (train, val) in sorted(folds.items()):
        if index > len(splits):
            raise CampaignError(
                f"{current} knows {len(splits)} fold(s), so fold {index} cannot be added; begin with -f {len(splits)} or -f all."
            )
        train = sorted(train)
        entry = {"train": train, "val": sorted(val) or list(train)}
        splits[index : index + 1] = [entry]
        entries.append(entry)
    if not entries or read_splits(current) == splits:
        return False
    if current.is_file() and not _is_ours(dataset_folder):
        _keep(dataset_folder)
    elif not current.is_file() and not backups(dataset_folder):
        # keep the definition of all folds; an empty list means that none were defined
        write_json(dataset_folder / "active" / f"{_BACKUP}.json", other_folds or [])
    text = json.dumps(splits, indent=4) + "\n"
    # write the digests first: after a kill in between, the origin of the old file is still known
    digests = _written(dataset_folder)
    made = [_digest(text.encode()), *map(_fold_digest, entries)]
    new = [digest for digest in dict.fromkeys(made) if digest not in digests]
    if new:
        write_json(dataset_folder / "active" / _WRITTEN, [*digests, *new])
    write_text(current, text)
    return True


def _keep(dataset_folder: Path) -> None:
    """Back up a user's split file under a new name, once for every version of it."""
    current = dataset_folder / FILE_NAME
    kept = backups(dataset_folder)
    if kept and kept[-1].read_bytes() == current.read_bytes():  # only the newest backup counts: it defines the folds
        return
    name = f"{_BACKUP}.json" if not kept else f"{_BACKUP}_{_number(kept[-1]) + 1}.json"
    copy_file(current, dataset_folder / "active" / name)
