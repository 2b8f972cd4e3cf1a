"""Tables, figures and the page, from rows."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from benchmark_rows import case_rows, rows

from nnunet_active.benchmark.configuration import Arm, Configuration
from nnunet_active.benchmark.figures import curves_figure
from nnunet_active.benchmark.measures import case_values, harm, per_run, with_ways
from nnunet_active.benchmark.measures import curves as measured_curves
from nnunet_active.benchmark.plan import Fold, plan_runs
from nnunet_active.benchmark.results import write_tables
from nnunet_active.benchmark.summary import Tables, read, summarise_benchmark
from nnunet_active.util.errors import CampaignError, MissingInput


def tables(arms: tuple[str, ...] = ("mmacts", "foreground_random", "mmacts:one_off")) -> Tables:
    values = {("source", 0): {0: 0.4}, ("all labels", 0): {8: 0.8}}
    cases = {("source", 0): {0: [0.3, 0.5]}}
    for seed in range(2):
        for index, arm in enumerate(arms):
            curve = {labels: 0.4 + 0.1 * labels + 0.01 * index + 0.005 * seed for labels in (1, 2, 3)}
            curve = {3: curve[3]} if arm.endswith("one_off") else curve
            values[arm, seed] = curve
            cases[arm, seed] = {labels: [dice - 0.1, dice + 0.1] for labels, dice in curve.items()}
    return Tables(with_ways(rows(values)), with_ways(case_rows(cases)))


def test_the_page_holds_every_table_and_figure_and_asks_for_nothing_else(tmp_path: Path):
    sections = summarise_benchmark(tables(), tmp_path, title="Cine <to> LGE")
    page = (tmp_path / "summary.html").read_text()
    assert "Cine &lt;to&gt; LGE" in page and "<script" not in page
    for section in sections:
        assert section.title in page.replace("&#39;", "'")
        for figure in section.figures:
            assert figure.stat().st_size > 1000
    assert page.count("<svg") == sum(len(section.figures) for section in sections) // 2 > 3
    assert "src=" not in page and page.count("href=") == page.count('href="#') + page.count('href="data:image')
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_the_distance_to_the_source_has_a_section_where_it_was_measured(tmp_path: Path):
    found = tables()
    found.cases["iou"] = found.cases["dice"]
    found.cases["source_distance"] = (found.cases["arm"] != "source") * 0.5
    names = [section.name for section in summarise_benchmark(found, tmp_path)]
    assert "certificate" in names and "certificate" not in [one.name for one in summarise_benchmark(tables(), tmp_path)]
    assert set(pd.read_csv(tmp_path / "certificate.csv")["bound"]) == {0.5}


def test_the_same_rows_give_the_same_files(tmp_path: Path):
    for name in ("one", "two"):
        summarise_benchmark(tables(), tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_the_markdown_names_the_best_way_first(tmp_path: Path):
    summarise_benchmark(tables(), tmp_path)
    text = (tmp_path / "summary.md").read_text()
    overview = text[text.index("## Every way") :]
    assert overview.index("| mmacts:one_off |") < overview.index("| foreground_random |") < overview.index("| mmacts |")


@pytest.mark.parametrize("arms", [(), ("mmacts",)])
def test_an_unfinished_benchmark_is_summarised_as_far_as_it_goes(tmp_path: Path, arms: tuple[str, ...]):
    sections = summarise_benchmark(tables(arms), tmp_path)
    assert {"facts", "references"} <= {section.name for section in sections}
    assert not any(section.name.startswith("wins") for section in sections)


def test_before_the_first_run_there_is_nothing_to_summarise(tmp_path: Path):
    with pytest.raises(MissingInput, match="no run of this benchmark is finished"):
        read(tmp_path)


def test_pseudo_labels_get_a_section_where_there_are_any(tmp_path: Path):
    judged = {"run": "a", "labels": 1, "reliable": [True, False], "dice": [0.8, 0.5], "way": "mmacts:pseudo"}
    plain = tables()
    sections = summarise_benchmark(Tables(plain.rows, plain.cases, pd.DataFrame(judged)), tmp_path)
    section = next(one for one in sections if one.name == "pseudo_labels")
    assert section.table.loc[0, "difference"] == pytest.approx(0.3)
    assert section.title in (tmp_path / "summary.md").read_text()
    assert "pseudo_labels" not in {one.name for one in summarise_benchmark(plain, tmp_path / "without")}


def results_in_slices() -> list[dict]:
    """The source, and a run that was worse in every test case with 10 slices of five scans, and better with 20 of the same scans."""

    def cases(dice: float) -> list[dict]:
        measured = {"dice": dice, "iou": dice, "surface_dice": dice, "hd95": 1.0, "source_distance": 0.1}
        return [{"case": case, "class": "a", **measured} for case in ("t1", "t2")]

    def judged(dice: float) -> list[dict]:
        return [{"case": "p", "reliable": True, "dice": dice}, {"case": "q", "reliable": False, "dice": 0.1}]

    def round_of(number: int, labels: int, scans: list[str], dice: float) -> dict:
        made = {"round": number, "epoch": 4 * number, "labelled": scans, "labels": labels, "requested": []}
        shown = {"pseudo_labels": judged(dice) if number else [], "cases": cases(dice)}
        return {**made, "weights": "", "foreground": 1, **shown}

    arms = tuple(map(Arm, ("random", "entropy")))
    sliced = {"unit": "slice", "budget": 20, "query_size": 10, "seeds": (0,), "all_labels": False}
    runs = plan_runs(Configuration("Dataset1_A", "2d", arms, **sliced), [Fold(0, tuple("abcdefgh"), ("t1", "t2"))])
    scans = list("abcde")
    rounds = [round_of(0, 0, [], 0.5)], [round_of(1, 10, scans, 0.4), round_of(2, 20, scans, 0.6)]
    parts = ("training", "trained_here", "query", "evaluation", "wall", "overhead")
    common = {"digests": {}, "versions": {}, "finished": "2026", "seconds": dict.fromkeys(parts, 1.0)}
    return [
        {**common, "run": spec.identifier, "spec": spec.to_json(), "pool_foreground": 100, "rounds": made}
        for spec, made in zip(runs, [rounds[0], rounds[1], rounds[1]], strict=True)
    ]


def test_the_source_that_several_benchmarks_share_counts_once_where_they_are_pooled(tmp_path: Path):
    source, random, entropy = results_in_slices()
    for name, results in (("one", [source, random]), ("two", [source, entropy]), ("all", [source, random, entropy])):
        write_tables(tmp_path / name, results)
    pooled, together = read(tmp_path / "one", tmp_path / "two"), read(tmp_path / "all")
    for name in ("rows", "cases", "pseudo_labels"):
        found, expected = (getattr(tables, name) for tables in (pooled, together))
        key = [column for column in ("run", "round", "class", "case") if column in found]
        pd.testing.assert_frame_equal(
            found.sort_values(key, ignore_index=True), expected.sort_values(key, ignore_index=True)
        )


def test_runs_of_the_same_name_from_other_source_networks_are_not_pooled(tmp_path: Path):
    for name in ("one", "two"):
        write_tables(tmp_path / name, [{**result, "digests": {"source": name}} for result in results_in_slices()])
    with pytest.raises(CampaignError, match="with other plans, source network or cases"):
        read(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("dice", "pooled"), [(0.5, True), (0.5004, True), (0.52, False)])
def test_runs_of_one_source_with_other_settings_are_pooled_only_if_they_found_the_same(tmp_path: Path, dice, pooled):
    for name, arm, of_source in (("one", "random", 0.5), ("two", "entropy", dice)):
        table = rows({("source", 0): {0: of_source}, (arm, 0): {1: 0.6, 2: 0.7}})
        cases = case_rows({("source", 0): {0: [of_source] * 2}, (arm, 0): {1: [0.6] * 2, 2: [0.7] * 2}})
        (tmp_path / name).mkdir()
        for file, content in (("results.csv", table), ("cases.csv", cases.drop(columns=["dataset", "configuration"]))):
            content.loc[content["arm"] == "source", "run"] = f"source_of_{name}"
            content.to_csv(tmp_path / name / file, index=False)
    if not pooled:
        with pytest.raises(CampaignError, match="their source models have different Dice"):
            read(tmp_path / "one", tmp_path / "two")
        return
    tables = read(tmp_path / "one", tmp_path / "two")
    assert harm(tables.rows, tables.cases)["runs"].tolist() == [1, 1, 1, 1]
    assert per_run(tables.rows)["source"].tolist() == [0.5, 0.5]
    assert set(tables.cases["run"]) == {"source_of_one", "random_0", "entropy_0"}


def test_at_the_full_budget_every_run_counts_with_the_labels_that_it_ended_with(tmp_path: Path):
    curves = {("source", 0): {0: 0.5}, ("a", 0): {10: 0.6, 30: 0.9}, ("a", 1): {10: 0.6, 29: 0.1}}
    curves |= {("b", seed): {10: 0.6, 30: 0.7} for seed in range(2)}
    cases = {key: {labels: [dice] * 2 for labels, dice in curve.items()} for key, curve in curves.items()}
    found = Tables(with_ways(rows(curves)), with_ways(case_rows(cases)))
    sections = {section.name: section.table for section in summarise_benchmark(found, tmp_path)}
    for name in ("tests_final", "tests_cases"):
        assert sections[name]["difference"].tolist() == pytest.approx([-0.2])
    shares = sections["overview"].set_index("way")["foreground_share"]
    assert shares["a"] == pytest.approx(2.95) and shares["b"] == pytest.approx(3.0)


@pytest.mark.parametrize("written", ["now", "by an earlier version"])
def test_where_slices_are_asked_for_every_table_counts_slices(tmp_path: Path, written: str):
    write_tables(tmp_path, results_in_slices())
    if written != "now":  # it counted scans in all but results.csv
        for name in ("cases.csv", "pseudo_labels.csv"):
            table = pd.read_csv(tmp_path / name)
            table["labels"] = table["labels"].where(table["labels"] == 0, 5)
            table.to_csv(tmp_path / name, index=False)
    found = read(tmp_path)
    sections = {one.name: one.table for one in summarise_benchmark(found, tmp_path / "summary")}
    harm = sections["harm"].query("way == 'random'").set_index("labels")
    assert harm["worse_cases"].to_dict() == {10: 1.0, 20: 0.0} and harm["worse_runs"].to_dict() == {10: 1.0, 20: 0.0}
    assert sorted(set(sections["certificate"]["labels"])) == [10, 20]
    assert sorted(set(sections["pseudo_labels"]["labels"])) == [10, 20]
    values = case_values(found.cases)
    assert values[values["labels"] == 20]["value"].tolist() == [0.6] * 4  # and not the mean over both rounds


def test_the_curve_of_slices_says_so_and_has_few_ticks():
    values = {("random", 0): {100: 0.5, 200: 0.6}, ("source", 0): {0: 0.4}}
    curves = measured_curves(with_ways(rows(values)))
    axes = curves_figure(curves, ["random"], what="slices").axes[0]
    assert axes.get_xlabel() == "labelled target slices" and len(axes.get_xticks()) < 20
    assert all(tick == round(tick) for tick in axes.get_xticks())
    few = curves_figure(curves.assign(labels=curves["labels"] // 50), ["random"]).axes[0]
    assert few.get_xlabel() == "labelled target cases" and list(few.get_xticks()) == [0, 1, 2, 3, 4]
