"""Keep what finished benchmarks measured: their rows without paths, and the tables of the documentation.

    python benchmarks/collect_benchmark.py cardiac=FOLDER glioma=FOLDER glioma=FOLDER_WITH_OTHER_RECIPES --out benchmarks/results

Folders of one name are pooled: other recipes of the same arms on the same folds. Writes ``benchmark_NAME.csv`` (a row per run, round
and class) and, where there are semi-supervised arms, ``benchmark_NAME_pseudo_labels.csv``; prints learning curves, paired tests
against foreground_random (within each recipe) and against the recipe plain (by arm, and over all arms), harm, and the worth of the
selected pseudo-labels as Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd

LEFT_AWAY = ["run", "labelled", "spec", "versions", "digests", "code", "weights", "way"]
REFERENCE = "foreground_random"
FEWEST_PAIRS = 3


def curves_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over folds and seeds, a row per way, a column per number of labels."""
    from nnunet_active.benchmark.measures import curves

    table = curves(rows)
    spread = table["std"].map(lambda value: "" if value != value else f" ± {value:.3f}")
    table["shown"] = table["mean"].map("{:.3f}".format) + spread
    shown = table.pivot(index="way", columns="labels", values="shown").fillna("")
    runs = table.groupby("way")["n"].max().rename("runs")
    last = table.sort_values("labels").groupby("way")["mean"].last()
    return shown.join(runs).loc[last.sort_values(ascending=False).index].reset_index()


def compared(table: pd.DataFrame) -> dict[str, float]:
    """The first of two ways against the second, in pairs: share of ``wins``, ``n``, mean ``difference``, ``p``, ``smallest_p``."""
    from nnunet_active.benchmark import paired_tests as comparison

    test = comparison.pairwise_tests(table).iloc[0]
    return {"wins": comparison.win_matrix(table).iloc[0, 1], **test[["n", "difference", "p", "smallest_p"]]}


def against(rows: pd.DataFrame, other: Callable[[str], str]) -> pd.DataFrame:
    """Final Dice and area of every way less those of another one, paired by fold and seed, where three pairs or more are there.

    Args:
        rows: of ``results.csv``.
        other: the way that a way is compared with.
    """
    from nnunet_active.benchmark import measures
    from nnunet_active.benchmark import paired_tests as comparison

    runs = measures.per_run(rows)
    lines = []
    for column in ("final", "area"):
        for way in measures.strategies(rows):
            reference = other(way)
            if way == reference or runs.loc[runs["way"] == way, column].isna().all():
                continue
            table = comparison.paired(runs, measures.UNIT, column, [way, reference])
            if len(table) >= FEWEST_PAIRS:
                lines.append({"what": column, "way": way, "against": reference, **compared(table)})
    table = pd.DataFrame(lines, columns=["what", "way", "against", "n", "wins", "difference", "p", "smallest_p"])
    for _, group in table.groupby("what"):
        table.loc[group.index, "p_holm"] = comparison.holm(group["p"].to_numpy())
    return table


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Every round of every run that chose cases, with its ``change`` from the source network."""
    from nnunet_active.benchmark.configuration import ALL_LABELS, SOURCE
    from nnunet_active.benchmark.measures import references

    table = references(rows)
    table = table[table["arm"] != ALL_LABELS]
    return table.assign(change=table["value"] - table[SOURCE])


def harm_of_recipes(rows: pd.DataFrame) -> pd.DataFrame:
    """Every round of every run against its source network, by recipe."""
    grouped = changes(rows).groupby(["recipe", "arm"])["change"]
    return pd.DataFrame(
        {
            "networks": grouped.size(),
            "change": grouped.mean(),
            "worse": grouped.apply(lambda change: float((change < 0).mean())),
            "worst": grouped.min(),
        }
    ).reset_index()


def recipes_against_plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Every recipe against plain over all arms, in the runs (arm, fold and seed) that both have; and both against the source."""
    from nnunet_active.benchmark import measures
    from nnunet_active.benchmark import paired_tests as comparison

    table, unit = changes(rows), ["arm", *measures.UNIT]
    grouped = table.sort_values("labels").groupby([*unit, "recipe"])["change"]
    runs = grouped.agg(final="last", mean="mean").reset_index().rename(columns={"recipe": "way"})
    lines = []
    for recipe in sorted(set(table["recipe"]) - {"plain"}):
        line = {"recipe": recipe}
        for column in ("final", "mean"):
            pairs = comparison.paired(runs, unit, column, [recipe, "plain"])
            if len(pairs) >= FEWEST_PAIRS:
                line |= {f"{column} {name}": value for name, value in compared(pairs).items()}
        both = table[table.set_index(unit).index.isin(pairs.index)]
        for name, change in both[both["recipe"].isin(pairs.columns)].groupby("recipe")["change"]:
            which = "plain " if name == "plain" else ""
            line |= {f"{which}worse": f"{(change < 0).sum()} of {len(change)}", f"{which}change": change.mean()}
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    from nnunet_active.benchmark import measures
    from nnunet_active.benchmark.markdown import as_markdown
    from nnunet_active.benchmark.summary import read

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    pooled: dict[str, list[Path]] = {}
    for entry in args.folders:
        name, _, folder = entry.partition("=")
        pooled.setdefault(name, []).append(Path(folder))
    for name, folders in pooled.items():
        tables = read(*folders)
        rows = tables.rows.drop_duplicates(["way", "fold", "seed", "round", "class"])  # every folder has the source
        kept = rows.drop(columns=[column for column in LEFT_AWAY if column in rows])
        kept.to_csv(args.out / f"benchmark_{name}.csv", index=False, lineterminator="\n", float_format="%.5f")
        shown = [curves_table(rows)]
        for recipe in sorted(set(rows["recipe"]) - {"-"}):  # the source has none
            of_recipe = rows[rows["recipe"].isin([recipe, "-"])]
            shown.append(against(of_recipe, lambda way: REFERENCE + "".join(way.partition(" / ")[1:])))
        if rows["recipe"].nunique() > 2:
            shown.append(against(rows, lambda way: f"{way.partition(' / ')[0]} / plain"))
            shown.append(recipes_against_plain(rows))
        shown.append(harm_of_recipes(rows))
        if not tables.pseudo_labels.empty:
            judged = tables.pseudo_labels
            judged.drop(columns=[column for column in LEFT_AWAY if column in judged]).to_csv(
                args.out / f"benchmark_{name}_pseudo_labels.csv", index=False, lineterminator="\n", float_format="%.5f"
            )
            shown.append(measures.selection(judged))
        print(f"## {name}: {rows['run'].nunique()} runs\n")
        print(*(as_markdown(table) + "\n" for table in shown), sep="\n")


if __name__ == "__main__":
    main()
