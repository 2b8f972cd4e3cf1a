"""What the scripts of the laboratory read: raw scans of the glioma pair, turned round, and a source network that knows nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import small_lab as lab


def tiny_laboratory(root: Path, scans: int, seed: int) -> tuple[Path, Path]:
    """The raw folder, and the cache with the network whose weights ``seed`` draws; ``scans`` of the target, named p0 and so on."""
    raw, cache = root / "raw", root / "cache"
    for dataset, n in (("Dataset204_GliomaTarget", 1), ("Dataset203_GliomaSource", scans)):
        for part in ("imagesTr", "labelsTr"):
            (raw / dataset / part).mkdir(parents=True)
        for i in range(n):
            label = np.zeros((3, 32, 32), np.uint8)
            label[1, 8 : 16 + i, 8:20] = 1
            image = np.random.default_rng(i).normal(0, 1, label.shape) + 3 * label
            image = sitk.GetImageFromArray(image.astype(np.float32))
            sitk.WriteImage(image, raw / dataset / "imagesTr" / f"p{i}_0000.nii.gz")
            sitk.WriteImage(sitk.GetImageFromArray(label), raw / dataset / "labelsTr" / f"p{i}.nii.gz")
    cache.mkdir()
    torch.manual_seed(seed)
    torch.save(lab.build(1, 2).state_dict(), cache / "source_glioma_back.pth")
    return raw, cache
