"""Everything that a benchmark's rows show, as tables, figures and one page: ``summary/`` in the benchmark's folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_active.benchmark import figures as plots
from nnunet_active.benchmark import measures
from nnunet_active.benchmark import paired_tests as comparison
from nnunet_active.benchmark.configuration import SOURCE
from nnunet_active.benchmark.markdown import as_markdown
from nnunet_active.benchmark.results import CASES, PSEUDO_LABELS, ROWS, count_as_the_runs, read_rows, with_one_source
from nnunet_active.benchmark.summary_page import write_page
from nnunet_active.util.atomic import write_text
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.tables import write_csv

FOLDER = "summary"


@dataclass
class Section:
    """One table of the summary, with its figure and the notes on it."""

    name: str
    title: str
    text: str
    table: pd.DataFrame | None = None
    figures: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Tables:
    """Rows of one or several benchmarks with their ways."""

    rows: pd.DataFrame
    cases: pd.DataFrame
    pseudo_labels: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def ways(self) -> list[str]:
        """The ways that chose cases."""
        return measures.strategies(self.rows)


def read(*roots: Path) -> Tables:
    """The tables of benchmarks; several are pooled, with each data set, fold and seed as a unit of its own.

    Raises:
        MissingInput: no run is finished yet.
        CampaignError: they cannot be pooled.
    """
    for root in roots:
        if not (root / ROWS).is_file():
            raise MissingInput(f"{root / ROWS} was not found: no run of this benchmark is finished yet.")
    rows = measures.with_ways(with_one_source(read_rows(*(root / ROWS for root in roots))))
    place = rows.drop_duplicates("run").set_index("run")[["dataset", "configuration", "way"]]
    judged = [root / PSEUDO_LABELS for root in roots if (root / PSEUDO_LABELS).is_file()]

    def details(files: list[Path]) -> pd.DataFrame:
        return count_as_the_runs(read_rows(*files), rows).join(place, on="run", how="inner")

    return Tables(rows, details([root / CASES for root in roots]), details(judged) if judged else pd.DataFrame())


def summarise_benchmark(tables: Tables, folder: Path, metric: str = "dice", title: str = "Benchmark") -> list[Section]:
    """Write ``summary.md``, ``summary.html``, the tables as CSV and the figures as PNG and SVG.

    Args:
        tables: from :func:`read`.
        folder: where to.
        metric: ``dice``, ``iou`` or ``surface_dice``.
        title: of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = [_facts(tables), _references(tables, metric)]
    if tables.ways:
        sections += [_overview(tables, metric), _curves(tables, metric, folder), _harm(tables, metric)]
    certificate = measures.certificate(tables.cases)
    if not certificate.empty:
        sections.append(
            Section("certificate", "How far from its source can an adapted model be?", _CERTIFICATE, certificate)
        )
    if not tables.pseudo_labels.empty:
        sections.append(_pseudo_labels(tables))
    if len(tables.ways) > 1:
        sections += _comparisons(tables, metric, folder)
    for section in sections:
        if section.table is not None:
            write_csv(folder / f"{section.name}.csv", section.table)
    write_text(folder / "summary.md", _markdown(title, sections))
    write_page(folder / "summary.html", title, sections)
    return sections


def _facts(tables: Tables) -> Section:
    rows = tables.rows.drop_duplicates("run")
    ours = rows[rows["arm"] != SOURCE]

    def listed(column: str) -> str:
        return ", ".join(as_number(value) for value in dict.fromkeys(ours[column].dropna()))

    trained = ours["seconds_trained_here"].sum()
    facts = {
        "target": listed("dataset"),
        "configuration": listed("configuration"),
        "trainer": listed("trainer"),
        "runs": str(len(rows)),
        "seeds": listed("seed"),
        "folds": listed("fold"),
        "test cases in a fold": ", ".join(str(n) for n in sorted(set(rows["test_cases"]))),
        "epochs, stride, iterations per epoch": " / ".join(listed(name) for name in ("epochs", "stride", "iterations")),
        "initial learning rate": listed("lr") or "the trainer's own",
        "hours of training, queries, evaluation": " / ".join(
            f"{rows[f'seconds_{name}'].sum() / 3600:.2f}" for name in ("trained_here", "query", "evaluation")
        ),
        "overhead above the training": f"{ours['seconds_overhead'].sum() / trained:.1%}" if trained else "-",
    }
    table = pd.DataFrame({"what": facts.keys(), "value": facts.values()})
    return Section(
        "facts", "What was run", "A seed decides the strategy's draws and the order of the training's.", table
    )


def _references(tables: Tables, metric: str) -> Section:
    return Section(
        "references",
        "References",
        f"Mean {metric} over the classes, on the test cases.",
        measures.reference_values(tables.rows, metric),
    )


def _overview(tables: Tables, metric: str) -> Section:
    text = (
        "final: mean at the full budget. area: under the budget curve, divided by its width. gap: share of the distance from the "
        "source model to all labels that is closed at the full budget. foreground_efficiency: rate at which that gap closes with "
        "the share of the pool's foreground that was outlined; it rewards ways that need less to be drawn."
    )
    return Section("overview", "Every way, the best first", text, measures.overview(tables.rows, metric))


def _curves(tables: Tables, metric: str, folder: Path) -> Section:
    curves = measures.curves(tables.rows, metric)
    ours = tables.rows[tables.rows["way"].isin(tables.ways)]
    what = "slices" if set(ours.get("unit", ())) == {"slice"} else "cases"
    figures = plots.save_figure(plots.curves_figure(curves, tables.ways, metric, what), folder / "curves")
    text = "Mean over seeds and folds, bars: standard deviation; grey band: foreground_random; dotted: source, dashed: all labels."
    return Section("curves", "Learning curves", text, curves, figures)


def _harm(tables: Tables, metric: str) -> Section:
    text = (
        "Adapted against source model: change: mean difference; worse_runs: share of the runs that are worse; loss: their mean "
        "difference; worst: the worst run; worse_cases: share of the test cases that lost. " + _ABSENT
    )
    return Section(
        "harm",
        "Is an adapted model ever worse than its source?",
        text,
        measures.harm(tables.rows, tables.cases, metric),
    )


def _pseudo_labels(tables: Tables) -> Section:
    text = (
        "Candidates of the reliable sets of semi-supervised rounds against the withheld labels: mean Dice of those that were kept and "
        "of those that were not, means over runs; higher: share of the runs in which the kept ones are better."
    )
    return Section(
        "pseudo_labels",
        "Were the reliable pseudo-labels the better ones?",
        text,
        measures.selection(tables.pseudo_labels),
    )


def _comparisons(tables: Tables, metric: str, folder: Path) -> list[Section]:
    runs = measures.per_run(tables.rows, metric)
    cases = tables.cases[tables.cases["way"].isin(tables.ways)]
    # a run may end with fewer labels than another, as where its pool holds fewer slices
    full = cases[cases["labels"] == cases.groupby(["way", *measures.UNIT])["labels"].transform("max")]
    full = measures.case_values(full, metric)
    kinds: list[tuple[str, str, pd.DataFrame, list[str], str]] = [
        ("final", "at the full budget, by run", runs, measures.UNIT, "final"),
        ("area", "area under the budget curve, by run", runs.dropna(subset=["area"]), measures.UNIT, "area"),
        ("cases", "at the full budget, by test case", full, ["dataset", "configuration", "fold", "case"], "value"),
    ]
    sections: list[Section] = []
    for name, words, values, unit, column in kinds:
        ways = [way for way in tables.ways if way in set(values["way"])]
        table = comparison.paired(values, unit, column, ways)
        if len(ways) < 2 or table.empty:
            continue
        tests, wins = comparison.pairwise_tests(table), comparison.win_matrix(table)
        figures = plots.save_figure(plots.wins_figure(wins, tests, words), folder / f"wins_{name}")
        text = (
            f"Share of the {len(table)} pairs in which the row's way is better than the column's; a star: significant (Wilcoxon, Holm, "
            f"p < 0.05). " + _WARNINGS[name]
        )
        matrix = wins.reset_index(names="way")
        sections.append(Section(f"wins_{name}", f"Who wins, {words}", text, matrix, figures))
        sections.append(Section(f"tests_{name}", f"Paired tests, {words}", "", tests))
        ranks = comparison.bootstrap_ranks(table)
        figures = plots.save_figure(plots.ranks_figure(ranks, words), folder / f"ranks_{name}")
        sections.append(Section(f"ranks_{name}", f"Ranks by bootstrap, {words}", _RANKS, ranks, figures))
    return sections


def as_number(value: Any) -> str:
    """Write 12.0 as 12, for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)


_CERTIFICATE = (
    "bound: mean Jaccard distance of the two models' predictions on the test cases, by which their mean IoU can differ at most, "
    "whatever the labels are; difference: by how much it does (an IoU is 1 where a class is neither there nor predicted)."
)
_ABSENT = "In a test case a class that is not there counts 1 where a model rightly predicts none of it, 0 where another predicts some."
_RANKS = "low and high: 95 % interval of the rank when the pairs are drawn anew; first: how often the way is the best."
_RUNS = "A pair is a data set, fold and seed. With n pairs p cannot be below smallest_p: few seeds cannot show a difference."
_WARNINGS = {
    "final": _RUNS,
    "area": _RUNS + " One-off choices have no curve and are left out.",
    "cases": (
        "A pair is a test case, averaged over the seeds. This asks whether the models of these very runs differ on cases like "
        "these; it does not ask whether the strategy would choose as well again. " + _ABSENT
    ),
}


def _markdown(title: str, sections: list[Section]) -> str:
    lines: list[Any] = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        lines += [section.text, ""] if section.text else []
        lines += [f"![{section.title}]({figure.name})" for figure in section.figures if figure.suffix == ".png"]
        lines += [""] if section.figures else []
        lines += [as_markdown(section.table), ""] if section.table is not None else []
    return "\n".join(lines)
