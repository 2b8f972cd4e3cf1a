"""A multi-modal phantom pair in nnU-Net's raw format: a source domain, and a target domain from other scanners.

In some cases a single channel carries almost all of the lesion (``pattern`` in the truth table). The target has three
groups of cases: one looks like the source, two were scanned differently, so it matters which cases are labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_active.demo.phantom_case import CHANNELS, LABELS, PATTERNS, SHAPE, SPACING, TARGET_GROUPS, make_case
from nnunet_active.util.atomic import write_json

TRUTH_FILE = "phantom_truth.csv"


@dataclass(frozen=True)
class PhantomPair:
    """What was written: names, folders and the truth tables (indexed by case identifier) of both data sets.

    Columns of the truth tables: ``split`` ("train" or "test"), ``group``, ``pattern``, ``oedema_voxels``, ``core_voxels``,
    ``lesion_mm3``, ``contrast_T1``, ``contrast_FLAIR``, ``contrast_T2`` (see :func:`lesion_contrast`), ``dominant_channel``.
    """

    source_name: str
    target_name: str
    source_folder: Path
    target_folder: Path
    source_truth: pd.DataFrame
    target_truth: pd.DataFrame


@dataclass(frozen=True)
class PhantomSizes:
    """How many cases a phantom pair has.

    Attributes:
        source: source cases to train on.
        source_test: source cases held out, for the in-domain figure.
        target_pool: target cases to choose from.
        target_test: target cases held out, with the pool's shares of the groups.
    """

    source: int = 32
    source_test: int = 10
    target_pool: int = 24
    target_test: int = 24


def write_phantom_pair(nnunet_raw: Path, sizes: PhantomSizes | None = None, seed: int = 0) -> PhantomPair:
    """Write ``Dataset901_PhantomSource`` and ``Dataset902_PhantomTarget`` below ``nnunet_raw``.

    Each has ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs``, ``dataset.json`` and ``phantom_truth.csv``. The same
    arguments give the same voxels. All pool cases have their label, for a campaign with the retrospective oracle.

    Args:
        nnunet_raw: nnU-Net's raw folder; made if it does not exist.
        sizes: how many cases.
        seed: any non-negative integer.

    Raises:
        FileExistsError: one of the two data sets exists already; it is not changed.
    """
    sizes = sizes or PhantomSizes()
    parts = {
        "Dataset901_PhantomSource": ("source", {"source": 1.0}, (sizes.source, sizes.source_test)),
        "Dataset902_PhantomTarget": ("target", dict(TARGET_GROUPS), (sizes.target_pool, sizes.target_test)),
    }
    folders = [Path(nnunet_raw) / name for name in parts]
    for folder in folders:
        if folder.exists():
            raise FileExistsError(f"{folder} is there already; remove it, or write the phantom elsewhere.")
    truths = [
        _write_dataset(folder, *part, np.random.SeedSequence([seed, i]))
        for i, (folder, part) in enumerate(zip(folders, parts.values(), strict=True))
    ]
    return PhantomPair(*parts, *folders, *truths)


def _shuffled(shares: Mapping[str, float], n: int, rng: np.random.Generator) -> list[str]:
    """``n`` names in random order, each in proportion to its share (rounded, so that small sets have every group)."""
    edges = np.round(np.cumsum(list(shares.values())) * n).astype(int)
    counts = np.diff(edges, prepend=0)
    return [str(name) for name in rng.permutation(np.repeat(list(shares), counts))]


def _write_dataset(
    folder: Path, prefix: str, shares: Mapping[str, float], sizes: tuple[int, int], seed: np.random.SeedSequence
) -> pd.DataFrame:
    """Write one data set and return its truth table."""
    rows: dict[str, dict[str, object]] = {}
    for split, suffix, n, branch in zip(("train", "test"), ("Tr", "Ts"), sizes, seed.spawn(2), strict=True):
        rng = np.random.default_rng(branch)
        groups, patterns = _shuffled(shares, n, rng), _shuffled(PATTERNS, n, rng)
        for kind in ("images", "labels"):
            (folder / f"{kind}{suffix}").mkdir(parents=True, exist_ok=True)
        for group, pattern in zip(groups, patterns, strict=True):
            identifier = f"{prefix}_{len(rows) + 1:03d}"
            case = make_case(group, pattern, rng)
            for i, channel in enumerate(case.image):
                _write_image(folder / f"images{suffix}" / f"{identifier}_{i:04d}.nii.gz", channel.astype(np.int16))
            _write_image(folder / f"labels{suffix}" / f"{identifier}.nii.gz", case.label)
            rows[identifier] = {"split": split, **case.truth}
    truth = pd.DataFrame.from_dict(rows, orient="index").rename_axis("identifier")
    truth.to_csv(folder / TRUTH_FILE)
    description = {
        "channel_names": {str(i): name for i, name in enumerate(CHANNELS)},
        "labels": dict(LABELS),
        "numTraining": sizes[0],
        "file_ending": ".nii.gz",
    }
    write_json(folder / "dataset.json", description)
    return truth


def _write_image(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    # The slab is around the scanner's centre; two axes point the other way, as in most brain scans stored as NIfTI.
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    z, y, x = ((n - 1) / 2 * step for n, step in zip(SHAPE, SPACING, strict=True))
    image.SetOrigin((x, y, -z))
    sitk.WriteImage(image, path)
