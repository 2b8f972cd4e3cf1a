"""Keeps every label in use that is about to be replaced: each campaign of the data set gets a copy."""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b
from pathlib import Path

from nnunet_active.data.campaign_files import campaign_files
from nnunet_active.util.atomic import copy_file

REPLACED_LABELS = "replaced_labels"  # in a campaign's folder


def keep_copy(file: Path, folder: Path, case: str, ending: str) -> Path:
    """Keep a file that is about to be replaced, once; the copy's name holds its time and a digest of its content."""
    digest = blake2b(file.read_bytes(), digest_size=4).hexdigest()
    made = datetime.fromtimestamp(file.stat().st_mtime)
    for earlier in folder.glob(f"*__{digest}{ending}"):
        if earlier.name.startswith(f"{case}__"):
            return earlier
    kept = folder / f"{case}__{made:%Y%m%d_%H%M%S}__{digest}{ending}"
    copy_file(file, kept)
    return kept


def keep_for_campaigns(file: Path, dataset_folder: Path, case: str, ending: str) -> None:
    """Keep a label in use in ``replaced_labels`` of every campaign of its data set.

    Args:
        file: the copy in ``gt_segmentations``.
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``; without a campaign nothing is kept.
        case: identifier.
        ending: of the file.
    """
    for campaign in campaign_files(dataset_folder).values():
        keep_copy(file, campaign.parent / REPLACED_LABELS, case, ending)
