"""Draw a hand-off as the annotator sees it: the first case of the worklist, in the slices that the worklist names.

    python benchmarks/handoff_picture.py FOLDER --out docs/handoff.png

``FOLDER`` is what ``nnunet_active select`` or ``annotate`` wrote. Only its files are read. For images stored in RAS order, so that a
plane's voxels need no turning. Take scans whose licence allows a picture, and name the licence beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

AXES = {"x": 0, "y": 1, "z": 2}
SHOWN = ["rank", "case", "open_first", "sagittal_slices", "coronal_slices", "axial_slices"]


def voxels(file: Path) -> np.ndarray:
    """The stored array."""
    return np.asanyarray(nibabel.load(file).dataobj)


def plane(volume: np.ndarray, axis: int, slice_number: int) -> np.ndarray:
    """One slice (counted from 1), upright: the last of the two axes that are left goes up."""
    return np.take(volume, slice_number - 1, axis).T[::-1]


def draw_label(axes: Axes, label: np.ndarray, labels: list[dict]) -> None:
    """Fill and outline in the colours of the hand-off."""
    for one in labels:
        colour = np.array(one["colour"]) / 255
        mask = label == one["value"]
        axes.imshow(np.ma.masked_where(~mask, mask), cmap=ListedColormap([colour]), alpha=0.35, interpolation="nearest")
        if mask.any():
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.4)


def main() -> None:
    """Draw and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a hand-off folder")
    parser.add_argument("--out", type=Path, required=True, help="picture, .png")
    args = parser.parse_args()
    content = json.loads((args.folder / "handoff.json").read_text())
    case, entry = min(content["cases"].items(), key=lambda item: item[1]["rank"])
    image = voxels(args.folder / entry["images"][0]["file"]).astype(float)
    label = voxels(args.folder / entry["label_file"])
    uncertainty = voxels(args.folder / entry["uncertainty_file"])
    low, high = np.percentile(image, [1, 99.5])

    figure, panels = plt.subplot_mosaic(
        [["sagittal", "coronal", "axial", "uncertainty"], ["table"] * 4],
        figsize=(10, 4.1),
        height_ratios=[3, 1],
        layout="constrained",
    )
    for name, slices in entry["slices"].items():
        axis = AXES[entry["axes"][name]]
        for panel in [name, *(["uncertainty"] if name == "axial" else [])]:
            axes = panels[panel]
            axes.imshow(plane(image, axis, slices[0]), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_axis_off()
            if panel == "uncertainty":
                entropy = plane(uncertainty, axis, slices[0])
                shown = np.ma.masked_less(entropy, 0.05)
                axes.imshow(shown, cmap="inferno", vmin=0, vmax=np.log(2), alpha=0.75, interpolation="nearest")
                axes.set_title(f"uncertainty, axial slice {slices[0]}", fontsize=9)
            else:
                draw_label(axes, plane(label, axis, slices[0]), content["labels"])
                axes.set_title(f"{name}, slice {slices[0]}", fontsize=9)
    worklist = pd.read_csv(args.folder / "worklist.csv")[SHOWN]
    table = panels["table"]
    table.set_axis_off()
    heads = [name.replace("_", " ") for name in SHOWN]
    drawn = table.table(cellText=worklist.astype(str).values.tolist(), colLabels=heads, loc="center", cellLoc="left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8.5)
    names = ", ".join(one["name"] for one in content["labels"])
    figure.suptitle(f"{case}: prediction to correct ({names}), and the worklist", fontsize=10)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
