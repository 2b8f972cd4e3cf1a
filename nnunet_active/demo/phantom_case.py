"""One phantom case: a slab of a head with a lesion that each channel shows differently, as a given scanner records it.

The head has scalp, skull, grey and white matter and ventricles. The lesion is an oedema (label 1) around a core (label 2). T1
shows a bright rim around a dark core and the oedema faintly dark; FLAIR shows the oedema brightest and suppresses fluid; T2
shows both, and bright fluid beside them. Nothing here imitates a particular scanner or patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

CHANNELS = ("T1", "FLAIR", "T2")
LABELS: Mapping[str, int] = {"background": 0, "oedema": 1, "core": 2}
SHAPE = (12, 48, 48)
"""Voxels of a case as (Z, Y, X)."""
SPACING = (6.0, 4.0, 4.0)
"""Millimetres between voxels as (Z, Y, X)."""
TARGET_GROUPS: Mapping[str, float] = {"near": 0.3, "inverted": 0.35, "bright_fluid": 0.35}
"""Groups of target cases and their shares.

``near``: like the source, a little noisier, smaller lesions. ``inverted``: T1's tissue contrast upside down with bright
fluid, lesions fainter in T1 and FLAIR, a strong bias field. ``bright_fluid``: FLAIR does not suppress fluid and shows
lesions faintly, T2 is blurred, large lesions.
"""
PATTERNS: Mapping[str, float] = {"all": 0.64, "T1": 0.12, "FLAIR": 0.12, "T2": 0.12}
"""Which channel carries the lesion (``all``: each of them), with the share of cases."""
FAINT = 0.2
"""Share of the lesion's contrast that is left in the channels that do not carry it."""

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
# Its contrast in the one channel that carries it; T1 needs more, because the tissue varies most there.
_ALONE = (1.6, 1.1, 1.1)


@dataclass(frozen=True)
class _Scanner:
    """How a group of cases is scanned, and the range of its lesions' mean radius in mm."""

    lesion_radius: tuple[float, float]
    bias: float
    noise: float
    lesion_contrast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    t2_blur: float = 0.0
    tissues: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)  # where they differ from _TISSUES


_SCANNERS = {
    "source": _Scanner(lesion_radius=(19, 31), bias=0.05, noise=0.035),
    "near": _Scanner(lesion_radius=(18, 29), bias=0.05, noise=0.045),
    "inverted": _Scanner(
        lesion_radius=(21, 34),
        bias=0.12,
        noise=0.045,
        lesion_contrast=(0.5, 0.7, 1.0),
        tissues={
            "scalp": (0.50, 0.75, 0.60),
            "fluid": (0.95, 0.12, 1.00),
            "grey": (0.64, 0.58, 0.55),
            "white": (0.48, 0.46, 0.38),
        },
    ),
    "bright_fluid": _Scanner(
        lesion_radius=(22, 36),
        bias=0.10,
        noise=0.05,
        lesion_contrast=(0.6, 0.4, 0.9),
        t2_blur=0.6,
        tissues={"fluid": (0.18, 0.95, 1.00), "grey": (0.48, 0.50, 0.55), "white": (0.68, 0.50, 0.38)},
    ),
}


@dataclass(frozen=True)
class PhantomCase:
    """One case in memory: ``image`` float32 (3, Z, Y, X), ``label`` uint8 (Z, Y, X), its row of the truth table."""

    image: np.ndarray
    label: np.ndarray
    truth: dict[str, object]


def make_case(group: str, pattern: str, rng: np.random.Generator) -> PhantomCase:
    """One phantom case of a group ("source" or one of :data:`TARGET_GROUPS`) and a pattern (:data:`PATTERNS`)."""
    scanner = _SCANNERS[group]
    tissue = _head(rng)
    lesion = _lesion(tissue, scanner.lesion_radius, rng)
    weights = rng.uniform(0.85, 1.15, len(CHANNELS))
    shown = np.array(scanner.lesion_contrast)
    if pattern != "all":  # the channel that carries the lesion shows it fully on every scanner
        shown = np.where(np.array(CHANNELS) == pattern, _ALONE, FAINT * shown)
    weights *= shown

    image = np.zeros((len(CHANNELS), *SHAPE))
    for name, values in {**_TISSUES, **scanner.tissues}.items():
        image[:, tissue == name] = np.array(values)[:, None]
    for name, values in _LESION.items():
        image[:, lesion == name] += (weights * np.array(values))[:, None]
    image = gaussian_filter(image, (0, 0.3, 0.6, 0.6))  # partial volume
    image = _scan(image, scanner, rng)

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
    and R the healthy brain within four voxels of the lesion. Summed over the parts, because a bright rim around a dark core
    would otherwise cancel out. Our choice.

    Args:
        image: (M, Z, Y, X), any intensity scale: a linear change of a channel does not change its value.
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


def _lesion(tissue: np.ndarray, size: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Names of the lesion's parts per voxel: oedema, core, rim (of the core), or an empty string."""
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


def _scan(image: np.ndarray, scanner: _Scanner, rng: np.random.Generator) -> np.ndarray:
    """Record ideal intensities as a scanner would: bias field, Rician noise, gain; float32, whole numbers."""
    image = image.copy()
    if scanner.t2_blur:
        image[2] = gaussian_filter(image[2], (scanner.t2_blur / 3, scanner.t2_blur, scanner.t2_blur))
    for channel in image:
        channel *= np.exp(scanner.bias * _smooth_noise(rng, (6, 12, 12)))
    real, imaginary = scanner.noise * rng.standard_normal((2, *image.shape))
    image = np.hypot(image + real, imaginary)
    gain = rng.uniform(0.8, 1.2, len(image)) * 600
    return np.round(image * gain[:, None, None, None]).astype(np.float32)
