"""The only writer of ``splits_final.json``; a file that somebody else wrote is kept before it is changed.

nnU-Net reads ``nnUNet_preprocessed/DatasetXXX/splits_final.json``: a list with one ``{"train": [...], "val": [...]}`` per fold. Here
``train`` of the campaign's fold follows the labels as they arrive; ``val`` is what the user, or nnU-Net, decided and never changes.
A ``splits_final.json`` in the *raw* folder is read as the user's definition of the folds and never written.
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
_WRITTEN = "splits_written.json"  # digests of the files and of the folds that we wrote, to tell a user's edit from them
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
    """Which cases a fold may train on and which it is evaluated on; ``origin`` says who decided."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    origin: str


def read_splits(file: Path) -> list[dict[str, list[str]]] | None:
    """Content of a split file, or None where there is none.

    Raises:
        CampaignError: the file is not a list of train/val lists, or names a case that is no file name.
    """
    if not file.is_file():
        return None
    what = "a split file of nnU-Net's, a list of {'train': [...], 'val': [...]}"
    return read_checked_json(file, list[_Fold], what, "mend it or move it away")


def backups(dataset_folder: Path) -> list[Path]:
    """Kept versions of the user's split file, the oldest first."""
    found = {_number(path): path for path in (dataset_folder / "active").glob(f"{_BACKUP}*.json")}
    return [found[number] for number in sorted(found) if number]


def _number(backup: Path) -> int:
    """1, 2, ...; 0 for a file of somebody else's."""
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
    """Make sure that the split file can be changed, before anything that has to end in such a change begins.

    Raises:
        CampaignError: it, or what is kept beside it, is damaged.
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
    """Who trains and who validates in a fold: the first of these that knows it.

    1. ``splits_final.json`` beside the preprocessed data, where a user wrote it; where we changed it, the version from before
       (also for a fold of ours in a file whose other folds a user has edited since);
    2. ``splits_final.json`` in the raw folder;
    3. ``generated``: nnU-Net's own cross-validation, for a dataset whose labels are all there.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        fold: a number as text; ``"all"`` has no definition.
        raw_folder: ``nnUNet_raw/DatasetXXX``.
        generated: splits to fall back to.

    Returns:
        None for ``"all"`` and where nobody defined the fold.
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
        # the oldest file is from before our first change, so that nothing in it can be ours
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


def check_names(
    definition: FoldDefinition, fold: str, labelled: Sequence[str], unlabelled: Sequence[str]
) -> tuple[str, ...]:
    """Whether a fold speaks of the cases that are there: a name that fits none would drop its case without a word.

    Args:
        definition: the fold.
        fold: its number, for the messages.
        labelled: cases with a label.
        unlabelled: cases without one.

    Returns:
        Warnings: names of no case, and labelled cases that the fold does not name.

    Raises:
        CampaignError: no name fits any case.
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
    """Set some folds in ``splits_final.json`` in one step; the other folds stay as they are.

    Where nobody validates, ``val`` becomes ``train`` (as nnU-Net does for fold ``all``): stock nnU-Net cannot train without.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        folds: number of the fold -> labelled cases, held-out labelled cases.
        other_folds: what the file holds where it does not exist yet.

    Returns:
        Whether the file changed.

    Raises:
        CampaignError: the folds' predecessors are unknown, so that the list would have a hole.
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
        # the definition of all folds survives; an empty list says that nobody had defined any
        write_json(dataset_folder / "active" / f"{_BACKUP}.json", other_folds or [])
    text = json.dumps(splits, indent=4) + "\n"
    # the digests come first: after a kill in between, the old file is still known as whosever it was
    digests = _written(dataset_folder)
    made = [_digest(text.encode()), *map(_fold_digest, entries)]
    new = [digest for digest in dict.fromkeys(made) if digest not in digests]
    if new:
        write_json(dataset_folder / "active" / _WRITTEN, [*digests, *new])
    write_text(current, text)
    return True


def _keep(dataset_folder: Path) -> None:
    """Keep a user's split file under a name of its own, once for every version of it."""
    current = dataset_folder / FILE_NAME
    kept = backups(dataset_folder)
    if (
        kept and kept[-1].read_bytes() == current.read_bytes()
    ):  # an older one would not do: the newest defines the folds
        return
    name = f"{_BACKUP}.json" if not kept else f"{_BACKUP}_{_number(kept[-1]) + 1}.json"
    copy_file(current, dataset_folder / "active" / name)
