"""The learning curves of the README: Dice on unseen cases over the number of labelled cases, from the kept rows of the benchmark.

    python benchmarks/learning_curve.py --out docs/learning-curve.svg

Each panel is a pair: the mean over runs (folds and seeds) of one way of choosing, its standard deviation as a band, the source model
and a training on all labels as lines. All ways have the same recipe (``--recipe``), so that the curves compare choices alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
PAIRS = {
    "benchmark_cardiac.csv": "Hearts: cine to late enhancement",
    "benchmark_glioma.csv": "Glioma: other hospitals",
    "benchmark_hippocampus.csv": "Hippocampus: no shift",
}
WAYS = {
    "foreground_random": ("random", "#555555"),
    "mmacts": ("mmActS", "#1f6fb4"),
    "assft": ("ASSFT", "#d1722b"),
}
REFERENCES = ("source", "all labels")


def curves(rows: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """Mean and standard deviation over runs, for every way and number of labels.

    Args:
        rows: a ``results.csv``.
        recipe: of the runs that count; the references count on the same folds, whatever their recipe.
    """
    rows = rows[rows["class"] == "mean"]
    ways = rows[rows["arm"].isin(WAYS) & (rows["recipe"] == recipe)]
    references = rows[rows["arm"].isin(REFERENCES) & rows["fold"].isin(ways["fold"])]
    table = pd.concat([ways, references]).groupby(["arm", "labels"])["dice"].agg(["mean", "std"]).reset_index()
    return table.fillna({"std": 0.0})


def draw(axes: Axes, table: pd.DataFrame, title: str) -> None:
    """One pair."""
    source = table.loc[table["arm"] == "source", "mean"].iloc[0]
    axes.axhline(source, color="#aa2244", linestyle="--", linewidth=1.2, label="source model")
    full = table[table["arm"] == "all labels"]
    if len(full):
        text = f"all {full['labels'].iloc[0]} labels"
        axes.axhline(full["mean"].iloc[0], color="#2a7d4f", linestyle=":", linewidth=1.4, label=text)
    for way, (name, colour) in WAYS.items():
        curve = table[table["arm"] == way].sort_values("labels")
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        axes.fill_between(curve["labels"], low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(curve["labels"], curve["mean"], color=colour, marker="o", markersize=3.5, label=name)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("labelled cases")
    axes.set_xticks(sorted(set(table.loc[table["arm"].isin(WAYS), "labels"])))
    axes.set_ylim(0.38, 0.86)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7.5, loc="lower right", framealpha=0.9)


def main() -> None:
    """Draw and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="figure, .svg or .png")
    parser.add_argument("--recipe", default="three_quarters", help="way of fine-tuning (default: three_quarters)")
    args = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "learning curve"  # the same file from the same rows
    figure, panels = plt.subplots(1, len(PAIRS), figsize=(10.5, 3.3), sharey=True, layout="constrained")
    for axes, (file, title) in zip(panels, PAIRS.items(), strict=True):
        draw(axes, curves(pd.read_csv(RESULTS / file), args.recipe), title)
    panels[0].set_ylabel("mean Dice, unseen cases")
    figure.savefig(args.out, metadata={"Date": None} if args.out.suffix == ".svg" else None, dpi=130)


if __name__ == "__main__":
    main()
