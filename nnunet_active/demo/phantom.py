"""A multi-modal phantom pair in nnU-Net's raw format: a source domain and a target domain seen by other scanners.

One case is a slab of a head (scalp, skull, grey and white matter, ventricles) with one lesion: an oedema (label 1) around a
core (label 2). Three channels show it differently, as magnetic resonance sequences do: T1 shows a bright rim around a dark
core and barely the oedema; FLAIR shows the oedema brightest and suppresses fluid; T2 shows both, and bright fluid beside it.

In part of the cases a single channel carries the lesion nearly alone (``pattern`` in the truth table): the others keep
:data:`FAINT` of their contrast. The target has three groups of cases (:data:`TARGET_GROUPS`): one looks like the source, two
were scanned differently, so that it matters which cases are labelled. Nothing here imitates a particular scanner or patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.ndimage import binary_dilation, gaussian_filter

from nnunet_active.atomic import write_json

CHANNELS = ("T1", "FLAIR", "T2")
LABELS: Mapping[str, int] = {"background": 0, "oedema": 1, "core": 2}
SHAPE = (12, 48, 48)
"""Voxels of a case as (Z, Y, X)."""
SPACING = (6.0, 4.0, 4.0)
"""Millimetres between voxels as (Z, Y, X)."""
TARGET_GROUPS: Mapping[str, float] = {"near": 0.3, "inverted": 0.35, "faded": 0.35}
"""Groups of target cases and their shares.

``near``: as the source, a little noisier. ``inverted``: tissue contrast of T1 upside down and a bias field. ``faded``: FLAIR
shows the oedema dark, T2 is blurred and its histogram stretched, smaller lesions, strong noise.
"""
PATTERNS: Mapping[str, float] = {"all": 0.64, "T1": 0.12, "FLAIR": 0.12, "T2": 0.12}
"""Which channel carries the lesion (``all``: each of them), and in which share of the cases."""
import os

V = os.environ.get("V", "1c1")
ST = {
    "1": {
        "inverted": {
            "fluid": (0.95, 0.12, 1.0),
            "grey": (0.7, 0.58, 0.55),
            "white": (0.48, 0.46, 0.38),
            "scalp": (0.5, 0.75, 0.6),
        },
        "faded": {"fluid": (0.18, 0.95, 1.0), "grey": (0.48, 0.5, 0.55), "white": (0.68, 0.5, 0.38)},
    },
    "2": {
        "inverted": {
            "fluid": (0.95, 0.3, 0.6),
            "grey": (0.7, 0.58, 0.55),
            "white": (0.48, 0.46, 0.38),
            "scalp": (0.5, 0.75, 0.6),
        },
        "faded": {"fluid": (0.18, 0.95, 1.0), "grey": (0.48, 0.45, 0.55), "white": (0.68, 0.6, 0.38)},
    },
}[V[0]]
SW = {
    "a": {"faded": (1, 0.5, 1)},
    "b": {"faded": (0.5, 0.5, 1), "inverted": (0.5, 1, 1)},
    "c": {"faded": (0.6, 0.4, 0.9), "inverted": (0.5, 0.7, 1)},
}[V[1]]
GA = float(V[2:])
FAINT = 0.25
"""What is left of the lesion's contrast in the channels that do not carry it."""
TRUTH_FILE = "phantom_truth.csv"

# Mean intensities per tissue as (T1, FLAIR, T2); 0 is air, about 1 the brightest tissue.
_TISSUES = {
    "skull": (0.12, 0.10, 0.08),
    "scalp": (0.90, 0.75, 0.60),
    "fluid": (0.18, 0.12, 1.00),
    "grey": (0.48, 0.58, 0.55),
    "white": (0.68, 0.46, 0.38),
}
# What the lesion adds to white matter, as (T1, FLAIR, T2).
_LESION = {
    "oedema": (-0.24, 0.46, 0.36),
    "core": (-0.42, 0.10, 0.62),
    "rim": (0.40, 0.26, 0.12),
}


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
class PhantomCase:
    """One case in memory: ``image`` float32 (3, Z, Y, X), ``label`` uint8 (Z, Y, X), its row of the truth table."""

    image: np.ndarray
    label: np.ndarray
    truth: dict[str, object]


def write_phantom_pair(
    nnunet_raw: Path,
    source_id: int = 901,
    target_id: int = 902,
    n_source: int = 32,
    n_source_test: int = 10,
    n_target_pool: int = 24,
    n_target_test: int = 24,
    seed: int = 0,
) -> PhantomPair:
    """Write ``DatasetXXX_PhantomSource`` and ``DatasetYYY_PhantomTarget`` below ``nnunet_raw``.

    Each has ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs``, ``dataset.json`` and ``phantom_truth.csv``. The same
    arguments give the same voxels. All pool cases have their label: for a campaign with the retrospective oracle.

    Args:
        nnunet_raw: nnU-Net's raw folder; made if it is not there.
        source_id: number of the source data set.
        target_id: number of the target data set.
        n_source: source cases to train on.
        n_source_test: source cases held out, for the in-domain figure.
        n_target_pool: target cases to choose from.
        n_target_test: target cases held out, with the same shares of the groups as the pool.
        seed: any non-negative integer.

    Raises:
        FileExistsError: one of the two data sets is there already; nothing of it is touched.
    """
    names = {source_id: f"Dataset{source_id:03d}_PhantomSource", target_id: f"Dataset{target_id:03d}_PhantomTarget"}
    folders = {number: Path(nnunet_raw) / name for number, name in names.items()}
    for folder in folders.values():
        if folder.exists():
            raise FileExistsError(f"{folder} is there already; remove it or choose another number for the phantom.")
    shares = {source_id: {"source": 1.0}, target_id: dict(TARGET_GROUPS)}
    sizes = {source_id: (n_source, n_source_test), target_id: (n_target_pool, n_target_test)}
    prefixes = {source_id: "source", target_id: "target"}
    truths = {
        number: _write_dataset(
            folder, prefixes[number], shares[number], sizes[number], np.random.SeedSequence([seed, i])
        )
        for i, (number, folder) in enumerate(folders.items())
    }
    return PhantomPair(
        source_name=names[source_id],
        target_name=names[target_id],
        source_folder=folders[source_id],
        target_folder=folders[target_id],
        source_truth=truths[source_id],
        target_truth=truths[target_id],
    )


def make_case(group: str, pattern: str, rng: np.random.Generator) -> PhantomCase:
    """One phantom case of a group ("source" or one of :data:`TARGET_GROUPS`) and a pattern (:data:`PATTERNS`)."""
    tissue = _head(rng)
    lesion = _lesion(tissue, group, rng)
    weights = rng.uniform(0.85, 1.15, len(CHANNELS))
    if pattern != "all":
        weights *= np.where(np.array(CHANNELS) == pattern, 1.1, FAINT)
    weights *= SW.get(group, (1, 1, 1))
    image = np.zeros((len(CHANNELS), *SHAPE))
    for name, values in {**_TISSUES, **ST.get(group, {})}.items():
        image[:, tissue == name] = np.array(values)[:, None]
    for name, values in _LESION.items():
        image[:, lesion == name] += (weights * np.array(values))[:, None]
    image = gaussian_filter(image, (0, 0.3, 0.6, 0.6))  # partial volume
    image = _scan(image, tissue != "air", group, rng)

    label = np.zeros(SHAPE, dtype=np.uint8)
    label[lesion == "oedema"] = LABELS["oedema"]
    label[(lesion == "core") | (lesion == "rim")] = LABELS["core"]
    contrasts = lesion_contrast(image, lesion, np.isin(tissue, ("grey", "white")))
    truth: dict[str, object] = {
        "group": group,
        "pattern": pattern,
        "oedema_voxels": int((label == LABELS["oedema"]).sum()),
        "core_voxels": int((label == LABELS["core"]).sum()),
        "lesion_mm3": float((label > 0).sum() * np.prod(SPACING)),
        **{f"contrast_{channel}": round(float(value), 4) for channel, value in zip(CHANNELS, contrasts, strict=True)},
        "dominant_channel": CHANNELS[int(np.argmax(contrasts))],
    }
    return PhantomCase(image=image, label=label, truth=truth)


def lesion_contrast(image: np.ndarray, parts: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """How clearly each channel shows the lesion: contrast-to-noise ratio, no unit.

    ``c_m = Σ_k |L_k| · |mean(I_m, L_k) − mean(I_m, R)| / (|L| · std(I_m, R))``, with L_k the lesion's parts (oedema, core, rim)
    and R the healthy brain within four voxels of the lesion. Part by part, since a bright rim around a dark core would
    cancel out. Our choice.

    Args:
        image: (M, Z, Y, X), any intensity scale: a linear change of a channel leaves its value as it is.
        parts: names or numbers of the lesion's parts, (Z, Y, X); empty string or 0 outside the lesion.
        brain: boolean (Z, Y, X).

    Returns:
        float64 (M,).
    """
    outside = parts.dtype.type()  # "" or 0
    lesion = parts != outside
    ring = binary_dilation(lesion, iterations=4) & brain & ~lesion
    reference, spread = image[:, ring].mean(1), image[:, ring].std(1)
    difference = np.zeros(len(image))
    for part in np.unique(parts[lesion]):
        inside = parts == part
        difference += inside.sum() * np.abs(image[:, inside].mean(1) - reference)
    return difference / (lesion.sum() * spread)


def _smooth_noise(rng: np.random.Generator, sigma: tuple[float, float, float]) -> np.ndarray:
    """Smooth random field over the slab with mean 0 and standard deviation 1; ``sigma`` in voxels."""
    field = gaussian_filter(rng.standard_normal(SHAPE), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def _positions() -> np.ndarray:
    """Voxel centres in mm from the middle of the slab, (3, Z, Y, X)."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(SHAPE, SPACING, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _ellipsoid(centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Elliptical radius of every voxel: 1 on the surface, 0 in the centre."""
    return np.sqrt((((_positions() - centre[:, None, None, None]) / axes[:, None, None, None]) ** 2).sum(0))


def _head(rng: np.random.Generator) -> np.ndarray:
    """Tissue names per voxel: air, scalp, skull, fluid, grey, white."""
    centre = rng.uniform(-4, 4, 3)
    radius = _ellipsoid(centre, np.array([110.0, 86.0, 70.0]) * rng.uniform(0.95, 1.05, 3))
    folds = 0.07 * _smooth_noise(rng, (0.7, 1.4, 1.4))
    tissue = np.full(SHAPE, "air", dtype="U6")
    for name, limit, edge in (("scalp", 1.0, 0.0), ("skull", 0.93, 0.0), ("fluid", 0.86, 0.3), ("grey", 0.83, 0.3)):
        tissue[radius + edge * folds < limit] = name
    tissue[radius + folds < 0.68] = "white"
    for side in (-1, 1):
        offset = np.array([rng.uniform(-6, 6), rng.uniform(-6, 6), side * rng.uniform(9, 13)])
        axes = np.array([rng.uniform(18, 28), rng.uniform(22, 32), rng.uniform(5, 8)])
        tissue[_ellipsoid(centre + offset, axes) < 1] = "fluid"
    return tissue


def _lesion(tissue: np.ndarray, group: str, rng: np.random.Generator) -> np.ndarray:
    """Names of the lesion's parts per voxel: oedema, core, rim (of the core), or an empty string."""
    size = {"source": (19, 31), "near": (18, 29), "inverted": (21, 34), "faded": (22, 36)}[group]
    radius = rng.uniform(*size)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(22, 42)
    centre = np.array([rng.uniform(-16, 16), reach * np.sin(angle), reach * np.cos(angle)])
    distance = _ellipsoid(centre, radius * rng.uniform(0.85, 1.2, 3)) + 0.12 * _smooth_noise(rng, (0.8, 1.6, 1.6))
    core_radius = radius * rng.uniform(0.5, 0.7)
    shift = rng.uniform(-0.25, 0.25, 3) * radius
    core = _ellipsoid(centre + shift, core_radius * rng.uniform(0.9, 1.1, 3)) + 0.1 * _smooth_noise(
        rng, (0.8, 1.2, 1.2)
    )
    inside = np.isin(tissue, ("grey", "white", "fluid"))
    parts = np.full(SHAPE, "", dtype="U6")
    parts[(distance < 1) & inside] = "oedema"
    parts[(core < 1) & inside] = "rim"
    parts[(core < 1 - 4.5 / core_radius) & inside] = "core"
    return parts


def _scan(image: np.ndarray, head: np.ndarray, group: str, rng: np.random.Generator) -> np.ndarray:
    """What the scanner of a group does to the ideal intensities; float32, whole numbers as scanners store them."""
    image = image.copy()
    bias, noise = 0.05, 0.035
    if group == "near":
        noise = 0.045
    elif group == "inverted":
        bias, noise = 0.12, 0.045
    elif group == "faded":
        bias, noise = 0.10, 0.05
        image[2] = gaussian_filter(image[2], (0.2, 0.6, 0.6))
        image[2] = np.clip(image[2], 0, None) ** GA
    for channel in image:
        channel *= np.exp(bias * _smooth_noise(rng, (6, 12, 12)))
    image = np.sqrt(
        (image + noise * rng.standard_normal(image.shape)) ** 2 + (noise * rng.standard_normal(image.shape)) ** 2
    )
    gain = rng.uniform(0.8, 1.2, len(image)) * 600
    return np.round(image * gain[:, None, None, None]).astype(np.float32)


def _shuffled(shares: Mapping[str, float], n: int, rng: np.random.Generator) -> list[str]:
    """``n`` names in random order, each as often as its share says (rounded; so small sets have every group)."""
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
    # The slab lies around the scanner's centre; two axes point the other way, as in most brain scans stored as NIfTI.
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    z, y, x = ((n - 1) / 2 * step for n, step in zip(SHAPE, SPACING, strict=True))
    image.SetOrigin((x, y, -z))
    sitk.WriteImage(image, path)
