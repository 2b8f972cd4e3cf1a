"""Plots as self-contained SVG for the page; text stays text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_active.util.svg import with_own_ids

# Okabe and Ito's palette, distinct for colour-blind people; every round also has its own marker
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LOOKS = ("axes", "figure", "font", "grid", "legend", "lines", "patch", "text", "xtick", "ytick")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# nnU-Net's training plots set font sizes for the whole process, so start from matplotlib's defaults
_STYLE = {
    **{name: value for name, value in mpl.rcParamsDefault.items() if name.split(".")[0] in _LOOKS},
    "svg.fonttype": "none",
    "svg.hashsalt": "nnunet_active",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6e8",
    "axes.edgecolor": "#69747c",
    "text.color": "#1d2529",
    "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
    "axes.axisbelow": True,
}


def embedding_plot(
    points: np.ndarray, rounds: Sequence[int | None], names: Mapping[int, str], axis_titles: Sequence[str], prefix: str
) -> str:
    """Cases in a plane, coloured by the round that asked for them.

    Args:
        points: (n, 2).
        rounds: round of every point; 0 if labelled from the start or unasked, None if still in the pool.
        names: text beside a point, by index of the point.
        axis_titles: the titles of both axes.
        prefix: makes the ids of this drawing unique.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _new(7.2, 4.6)
        asked = sorted({one for one in rounds if one})
        groups = [(None, "not asked for"), (0, "labelled, never asked for"), *((one, f"round {one}") for one in asked)]
        for group, title in groups:
            inside = np.array([one == group and (one is None) == (group is None) for one in rounds], dtype=bool)
            if not inside.any():
                continue
            colour, marker, size = ("#b4bcc2", "o", 24) if group is None else ("#5f6b73", "*", 70)
            if group:
                colour = COLOURS[(group - 1) % len(COLOURS)]
                marker, size = MARKERS[(group - 1) % len(MARKERS)], 64
            axes.scatter(*points[inside].T, s=size, c=colour, marker=marker, label=title, edgecolors="white", zorder=3)
        axes.margins(0.12)
        axes.set_xlabel(axis_titles[0])
        axes.set_ylabel(axis_titles[1])
        axes.set_aspect("equal", "datalim")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        _name_points(figure, axes, points, names)
        return _svg(figure, prefix)


def dice_plot(
    cases: Sequence[str], dice: Mapping[str, Sequence[float | None]], colours: Mapping[str, str], prefix: str
) -> str:
    """Dice between prediction and label, one line per class in its colour, in the order in which the labels arrived."""
    with mpl.rc_context(_STYLE):
        figure, axes = _new(5.4, 3.4)
        for index, (name, values) in enumerate(dice.items()):
            known = [(i, value) for i, value in enumerate(values, 1) if value is not None]
            if known:
                style = _style_of(name, index, colours)
                axes.plot(*zip(*known, strict=True), label=_short(name), linewidth=1.5, markersize=7, **style)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(0.5, len(cases) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.set_xlabel("label, in the order in which they came in")
        axes.set_ylabel("Dice, prediction with label")
        _legend(axes)
        return _svg(figure, prefix)


def volume_plot(
    volumes: Mapping[str, Sequence[tuple[float, float]]], unit: str, colours: Mapping[str, str], prefix: str
) -> str:
    """Predicted volume against the volume of the label, one marker per class and case; the line marks equal volumes.

    Args:
        volumes: pairs (label, predicted) of each class.
        unit: unit of both.
        colours: colour of each class.
        prefix: makes the ids of this drawing unique.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _new(5.4, 3.4)
        everything = np.array([pair for pairs in volumes.values() for pair in pairs], dtype=float)
        positive = everything[everything > 0]
        wide = positive.size > 1 and positive.max() / positive.min() > 50
        top = float(everything.max()) * 1.1 if everything.size and everything.max() > 0 else 1.0
        start = float(positive.min()) / 2 if wide else 0.0
        axes.plot([start, top], [start, top], color="#69747c", linewidth=1, linestyle="--", label="equal")
        for index, (name, pairs) in enumerate(volumes.items()):
            if pairs:
                label, predicted = np.array(pairs, dtype=float).T
                style = _style_of(name, index, colours)
                axes.plot(label, predicted, linestyle="none", markersize=7, label=_short(name), **style)
        if wide:  # zeros stay visible at the lower edge
            axes.set_xscale("symlog", linthresh=start)
            axes.set_yscale("symlog", linthresh=start)
        axes.set_xlabel(f"volume in the label, {unit}")
        axes.set_ylabel(f"predicted volume, {unit}")
        _legend(axes)
        return _svg(figure, prefix)


def _style_of(name: str, index: int, colours: Mapping[str, str]) -> dict[str, str]:
    """The colour and marker of a class; the dark edge keeps light colours visible on white."""
    colour = colours.get(name, COLOURS[-1])
    return {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markeredgecolor": "#1d2529"}


def _new(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")  # one pixel is one point, as in SVG
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27].rstrip() + "…"


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


_BESIDE = (
    *((8, dy, "left") for dy in (0, 12, -12)),
    *((-8, dy, "right") for dy in (0, 12, -12)),
    *((0, dy, "center") for dy in (11, -11, 24, -24)),
)


def _name_points(figure: Figure, axes: Axes, points: np.ndarray, names: Mapping[int, str]) -> None:
    """Write names beside points, each where it covers least of what is already drawn."""
    figure.canvas.draw()
    pixels = axes.transData.transform(points)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in pixels]
    frame = axes.get_window_extent()
    for index, name in names.items():
        x, y = pixels[index]
        width, height = 5.4 * len(name), 10
        best = None
        for dx, dy, side in _BESIDE:
            left = x + dx - {"left": 0, "right": width, "center": width / 2}[side]
            box = (left, y + dy - height / 2, left + width, y + dy + height / 2)
            outside = max(0, frame.x0 - box[0]) + max(0, box[2] - frame.x1)
            cost = sum(_overlap(box, other) for other in taken) + height * outside
            if best is None or cost < best[0]:
                best = (cost, dx, dy, side, box)
        _, dx, dy, side, box = best
        taken.append(box)
        axes.annotate(
            name, points[index], (dx, dy), textcoords="offset pixels", ha=side, va="center", fontsize=8.5, zorder=4
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _svg(figure: Figure, prefix: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue().decode("utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", with_own_ids(text, prefix), flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    return re.sub(r'<svg ([^>]*?)height="[^"]*"', r'<svg aria-hidden="true" \1', text, count=1)
