"""Where the campaigns of a data set are: the one pattern that all other modules use to find them."""

from __future__ import annotations

from pathlib import Path


def campaign_file(dataset_folder: Path, fold: str | int) -> Path:
    """``nnUNet_preprocessed/DatasetXXX/active/fold_F/campaign.json`` in the campaign's folder; the file need not exist."""
    return dataset_folder / "active" / f"fold_{fold}" / "campaign.json"


def campaign_files(dataset_folder: Path) -> dict[str, Path]:
    """Fold -> file of every campaign of a data set, numbers in order and ``all`` last.

    A campaign that was set aside (``fold_0_until_20260102_030405``) does not count: it no longer asks for anything.
    """
    found = [
        file.parent.name.removeprefix("fold_") for file in (dataset_folder / "active").glob("fold_*/campaign.json")
    ]
    numbers = sorted((fold for fold in found if fold.isdecimal()), key=int)
    return {fold: campaign_file(dataset_folder, fold) for fold in (*numbers, *({"all"} & set(found)))}
