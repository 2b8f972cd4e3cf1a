"""Figures of a benchmark: learning curves, win matrix, ranks."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_active.benchmark.configuration import ALL_LABELS, SOURCE

BASELINE = "foreground_random"
_NAMES = {"dice": "Dice", "iou": "IoU", "surface_dice": "surface Dice", "hd95": "HD95 (mm)"}
MOST_TICKS = 30
"""With up to this many labels, each has its tick."""

_MARKERS = "osD^vP*X<>hd"


def _empty(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")  # without pyplot: no window, no global state
    return figure, figure.subplots()


def curves_figure(curves: pd.DataFrame, ways: list[str], metric: str = "dice", what: str = "cases") -> Figure:
    """Mean over units against the number of labels, with the spread (standard deviation) as bars; the band is foreground-random's.

    Args:
        curves: from :func:`~nnunet_active.benchmark.measures.curves`.
        ways: what to draw besides the references.
        metric: for the axis.
        what: the labelled unit: ``cases`` or ``slices``.
    """
    figure, axes = _empty(9, 5)
    last = int(curves.loc[curves["way"].isin(ways), "labels"].max())
    for way, style in ((SOURCE, ":"), (ALL_LABELS, "--")):
        for _, line in curves[curves["way"].str.startswith(way)].iterrows():
            axes.axhline(line["mean"], color="black", linestyle=style, linewidth=1)
            label = line["way"] + (f" ({int(line['labels'])})" if way == ALL_LABELS else " model as it is")
            axes.annotate(label, (last, line["mean"]), ha="right", va="bottom", fontsize=8)
    # tab10's grey could be mistaken for the baseline's
    colours = [c for i, c in enumerate(matplotlib.colormaps["tab10"].colors) if i != 7]
    for index, way in enumerate(ways):
        line = curves[curves["way"] == way].sort_values("labels")
        x, mean, spread = line["labels"], line["mean"], line["std"].fillna(0)
        colour = "0.35" if way.startswith(BASELINE) else colours[index % len(colours)]
        if way.startswith(BASELINE):
            axes.fill_between(x, mean - spread, mean + spread, color="0.85", zorder=0)
        shift = (index - (len(ways) - 1) / 2) * 0.02
        marker = _MARKERS[index % len(_MARKERS)]
        axes.errorbar(x + shift, mean, spread, color=colour, marker=marker, markersize=5, capsize=2, lw=1.3, label=way)
    if last <= MOST_TICKS:
        axes.set_xticks(range(0 if 0 in set(curves["labels"]) else 1, last + 1))
    else:  # slices come in hundreds
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.8, last + 0.2)
    axes.set_xlabel(f"labelled target {what}")
    axes.set_ylabel(f"mean {_NAMES.get(metric, metric)} on the test cases")
    figure.legend(fontsize=8, loc="outside right upper")
    axes.grid(alpha=0.3)
    return figure


def wins_figure(wins: pd.DataFrame, p: pd.DataFrame | None = None, title: str = "") -> Figure:
    """Win matrix as a heat map, with a star if the difference is significant after the correction (p < 0.05)."""
    n = len(wins)
    figure, axes = _empty(2.5 + 0.55 * n, 2 + 0.5 * n)
    axes.imshow(np.nan_to_num(wins.to_numpy(), nan=0.5), cmap="RdBu", vmin=0, vmax=1)
    for i, row in enumerate(wins.index):
        for j, column in enumerate(wins.columns):
            if i != j:
                sure = p is not None and _p_of(p, row, column) < 0.05
                text = f"{wins.iloc[i, j]:.2f}{'*' if sure else ''}"
                dark = abs(wins.iloc[i, j] - 0.5) > 0.35
                axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(n), wins.columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(n), wins.index, fontsize=8)
    axes.set_title(title, fontsize=10)
    return figure


def _p_of(tests: pd.DataFrame, first: str, second: str) -> float:
    both = tests[tests["first"].isin([first, second]) & tests["second"].isin([first, second])]
    return float(both["p_holm"].iloc[0]) if len(both) else 1.0


def ranks_figure(ranks: pd.DataFrame, title: str = "") -> Figure:
    """Mean rank with the 95 % interval of the bootstrap, the best at the top."""
    figure, axes = _empty(7, 1.2 + 0.35 * len(ranks))
    y = np.arange(len(ranks))
    below, above = ranks["rank"] - ranks["low"], ranks["high"] - ranks["rank"]
    axes.errorbar(ranks["rank"], y, xerr=np.clip([below, above], 0, None), fmt="o", capsize=3, color="tab:blue")
    axes.set_yticks(y, ranks["way"], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("rank by bootstrap (1 is the best)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title, fontsize=10)
    return figure


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """PNG and SVG; the SVG holds no date, so that the same numbers give the same file."""
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    with matplotlib.rc_context({"svg.hashsalt": "nnunet_active", "svg.fonttype": "path"}):
        figure.savefig(files[0], dpi=150)
        figure.savefig(files[1], metadata={"Date": None})
    return files
