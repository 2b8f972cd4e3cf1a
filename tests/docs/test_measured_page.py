"""The numbers that README and ``docs/measured.md`` show are those of the rows that the benchmark left."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from nnunet_active.training import guarded_choice

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
FINE_TUNING = (ROOT / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
LABELS = (1, 3, 5)
PAIRS = ("glioma", "hearts", "diseased hearts", "hippocampus")
THREE = ("foreground_random", "mmacts", "assft")


def _rows_of(name: str) -> pd.DataFrame:
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / f"benchmark_{name}.csv")
    return rows[rows["class"] == "mean"]


def _table(text: str, begins: str) -> dict[str, list[str]]:
    """The first table whose head begins so: first cell -> the other cells."""
    lines = text[text.index(f"\n| {begins}") + 1 :].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells[2:]}


def _means(rows: pd.DataFrame, arm: str, recipe: str) -> pd.DataFrame:
    chosen = rows[(rows["arm"] == arm) & (rows["recipe"] == recipe)]
    return chosen.groupby("labels")["dice"].agg(["mean", "std"])


def _source(rows: pd.DataFrame) -> float:
    return rows.loc[rows["arm"] == "source", "dice"].mean()


@pytest.mark.parametrize(("pair", "name"), [("Hearts", "cardiac"), ("Glioma", "glioma")])
def test_the_table_of_strategies_is_the_benchmarks(pair: str, name: str) -> None:
    rows = _rows_of(name)
    table = _table(PAGE[PAGE.index(f"**{pair}**:") :], "way | 1 label | 3 | 5 (± std)")
    assert set(THREE) <= set(table)
    for way, cells in table.items():
        means = _means(rows, way, "plain")
        shown = [f"{means.loc[n, 'mean']:.3f}" if n in means.index else "" for n in LABELS]
        assert cells[:3] == [*shown[:2], f"{shown[2]} ± {means.loc[5, 'std']:.3f}"], way


def test_what_is_said_of_hearts_in_3d_is_the_benchmarks() -> None:
    rows, text = _rows_of("cardiac_3d"), PAGE[PAGE.index("**Hearts in 3-D**") :].partition("\n\n")[0]
    full = rows.loc[rows["arm"] == "all labels", "dice"].mean()
    assert f"the source reaches **{_source(rows):.3f}** and all ten labels **{full:.3f}**" in text
    for way, name in zip(THREE, ("foreground_random", "mmActS", "ASSFT"), strict=True):
        assert f"{_means(rows, way, 'plain').loc[5, 'mean']:.3f} by {name}" in text


@pytest.fixture
def script(monkeypatch):
    """A module of ``benchmarks/`` by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def _replayed(script, name: str, arm: str = "foreground_random") -> pd.DataFrame:
    """What the gate would have taken on the stored networks of a pair and a strategy."""
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / f"interpolation_{name}.csv")
    return script("interpolation").replayed(rows[rows["arm"] == arm])


def test_the_table_of_the_gate_is_what_the_recipe_would_have_done(script) -> None:
    for recipe, cells in _table(PAGE, "requests by foreground_random").items():
        for name, cell in zip(("cardiac", "glioma", "hippocampus"), cells, strict=True):
            networks = _replayed(script, name)
            found = networks[recipe] - networks["source"]
            shown = f"{found.mean():+.3f}, {found.min():+.3f}, {(found < -0.005).sum()} of {len(found)}"
            assert cell == shown.replace("-", "−"), (recipe, name)
    networks = _replayed(script, "glioma")
    worse = networks["guarded"] - networks["source"] < -0.005
    one, more = (f"{part.sum()} of {len(part)}" for _, part in worse.groupby(networks["labels"] > 1))
    assert f"On glioma, {one} networks of one label, which no case judges, are worse, {more} of more." in PAGE
    hearts = _replayed(script, "cardiac").groupby("labels")[["three_quarters", "guarded"]].mean()
    two, three = (hearts["three_quarters"] - hearts["guarded"])[[2, 3]]
    assert f"two or three labels that come singly gain {two:.3f} and {three:.3f} less than with 0.75" in PAGE
    rules = script("single_label_rules")
    two, three = (rules.least_behind(labels).loc["fitted", "behind"] for labels in (2, 3))
    assert f"fitted to these very networks stays {two:.3f} and {three:.3f} behind 0.75" in guarded_choice.__doc__
    networks = _replayed(script, "glioma", "mmacts")
    found = networks["guarded"] - networks["source"]
    said = f"glioma still loses: {found.mean():+.3f}, {found.min():+.3f}, {(found < -0.005).sum()} of {len(found)}."
    assert said.replace("-", "−") in PAGE


def test_the_table_of_harm_is_the_benchmarks() -> None:
    for recipe, cells in _table(PAGE, "recipe | hearts: worse").items():
        for name, often, change in zip(("cardiac", "glioma", "hippocampus"), cells[::2], cells[1::2], strict=True):
            if not often:
                continue
            rows = _rows_of(name if recipe != "held_out" else f"{name}_held_out")
            rows = rows[rows["fold"] == 0]
            chosen = rows[rows["arm"].isin(THREE) & (rows["recipe"] == recipe) & (rows["seed"] < 3)]
            changes = chosen["dice"] - _source(rows)
            assert often == f"{(changes < 0).sum()} of {len(changes)}", (recipe, name)
            shown = [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d\.\d+", change)]
            assert shown == pytest.approx([changes.mean(), changes.min()], abs=6e-4), (recipe, name)


def _judged(script) -> pd.DataFrame:
    """Every trained network with the alpha that the gate takes; ``unit`` tells how it was asked."""
    judge, found = script("gate").judge, []
    for name, mixed in (("gate", False), ("gate_mixed", True), ("one_by_one_mixed", True)):
        networks = judge(pd.read_csv(ROOT / "benchmarks" / "results" / f"{name}.csv"), mixed=mixed)
        networks["pair"] = networks["pair"].replace({"cardiac": "hearts", "diseased": "diseased hearts"})
        whole, twice = networks["unit"] == "case", networks["labels"] > 3
        networks.loc[whole, "unit"] = "one by one" if name == "one_by_one_mixed" else "three"
        networks.loc[whole & twice, "unit"] = "two rounds"
        networks.loc[whole, "unit"] += " mix" * mixed
        found.append(networks)
    return pd.concat(found, ignore_index=True)


def _behind(networks: pd.DataFrame) -> pd.Series:
    """How far the gate stays behind the best fixed alpha, by pair."""
    means = networks.groupby("pair")[["guarded", "0.25", "0.5", "0.75", "1"]].mean()
    return means.max(axis=1) - means["guarded"]


def _by_default(script) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The networks of the default recipe with foreground_random: from whole scans, and from slices."""
    judged = _judged(script).query("strategy == 'foreground_random'")
    return judged[judged["unit"].str.endswith("mix")], judged[judged["unit"] == "slice"]


def test_what_the_readme_promises_is_what_the_default_recipe_reached(script) -> None:
    whole, slices = _by_default(script)
    reached = slices.groupby("pair")[["source", "guarded"]].mean().rename(columns={"guarded": "slices"})
    reached.insert(1, "three", whole[whole["unit"] == "three mix"].groupby("pair")["guarded"].mean())
    for name in ("glioma", "cardiac"):
        full = _rows_of(name).query("arm == 'all labels'")["dice"].mean()
        reached.loc["hearts" if name == "cardiac" else name, "all"] = full
    table = _table(README, "source → target")
    assert len(table) == len(reached)
    for name, cells in table.items():
        pair = "diseased hearts" if name == "hearts: healthy → diseased" else name.partition(":")[0]
        assert cells == [f"{dice:.2f}" if dice == dice else "" for dice in reached.loc[pair]], name
    lost = (whole["guarded"] - whole["source"])[lambda change: change < -0.005]
    said = f"{len(lost)} of {len(whole)} networks lost more than 0.005 against it with whole scans (at most {-lost.min():.3f}), none "
    assert said + f"of {len(slices)} with slices" in README
    three = whole[whole["unit"] == "three mix"]
    ahead = slices.set_index(["pair", "seed"])["guarded"] - three.set_index(["pair", "seed"])["guarded"]
    told = []
    for pair, gains in ahead.dropna().groupby("pair"):
        p = stats.ttest_1samp(gains, 0).pvalue
        told.append(
            f"{gains.mean():+.3f} on {pair} ({(gains > 0).sum()} of {len(gains)}; {p:.{2 if p >= 0.01 else 3}f})"
        )
    assert f"differ from three whole scans by {', '.join(sorted(told, key=_order))}".replace("-", "−") in PAGE
    glioma, hearts = ahead["glioma"].mean(), -ahead["diseased hearts"].mean()
    assert f"On glioma, slices were {glioma:.2f} better, on diseased hearts {hearts:.2f} worse." in README


def _order(told: str) -> int:
    return [told.find(f"on {pair} ") > 0 for pair in PAIRS].index(True)


def _slices(name: str, arm: str, unit: str, share: str = "") -> pd.DataFrame:
    """Rows of one arm of ``benchmarks/slices.py`` by seed: whole scans, or as many slices (``all``), or a third of them."""
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / f"slices_{name}.csv")
    rows = rows[rows["labels"] > 0]
    if unit == "slice":
        budgets = rows.loc[rows["unit"] == "slice", "labels"]
        rows = rows[rows["labels"] == (budgets.max() if share == "all" else budgets.min())]
    return rows[(rows["unit"] == unit) & (rows["arm"] == arm)].set_index("seed").sort_index()


def test_the_table_of_slices_is_the_benchmarks() -> None:
    table, random = _table(PAGE, "labelled | "), "foreground_random:one_off"
    head = PAGE[PAGE.index("| labelled | ") :].splitlines()[0]
    arms = {
        "3 whole scans": (random, "case"),
        "the same, by mmacts": ("mmacts:one_off", "case"),
        "as many slices, three a scan": (random, "slice", "all"),
        "a third of these, one a scan": (random, "slice"),
    }
    assert set(table) == {*arms, "minutes: whole, as many, a third"}
    for column, name in enumerate(("diseased", "hearts", "glioma", "hippocampus")):
        source = _source(pd.read_csv(ROOT / "benchmarks" / "results" / f"slices_{name}.csv"))
        assert f"({source:.3f})" in head.split("|")[2 + column]
        whole = _slices(name, *arms["3 whole scans"])
        for first, arm in arms.items():
            rows = _slices(name, *arm)
            shown = f"{rows['dice'].mean():.3f} ± {rows['dice'].std():.3f}" if len(rows) else ""
            if len(rows) and arm[1] == "slice":
                gains = (rows["dice"] - whole["dice"]).dropna()
                p = stats.ttest_rel(rows["dice"].loc[gains.index], whole["dice"].loc[gains.index]).pvalue
                shown += f" ({(gains > 0).sum()} of {len(gains)}; {p:.{2 if p >= 0.01 else 3}f})"
            assert table[first][column] == shown, (name, first)
        spent = [_slices(name, random, *of)["minutes"].mean() for of in (("case",), ("slice", "all"), ("slice",))]
        assert table["minutes: whole, as many, a third"][column] == ", ".join(f"{m:.0f}" for m in spent)
    means = {
        name: ", ".join(
            f"{_slices(name, f'{random}:slices={way}', 'slice', 'all')['dice'].mean():.3f}"
            for way in ("centre", "random")
        )
        for name in ("diseased", "glioma")
    }
    said = f"`slices=centre` and `slices=random`: {means['diseased']} on diseased hearts, {means['glioma']} on glioma."
    assert said in PAGE


def test_the_table_of_the_gpu_is_what_its_checks_found() -> None:
    checks = json.loads((ROOT / "benchmarks" / "results" / "gpu_h200.json").read_text())["checks"]
    found = {check["check"]: {row["what"]: row["value"] for row in check["rows"]} for check in checks}
    section = PAGE[PAGE.index("## On a GPU") :]
    table = {what: cells[0] for what, cells in _table(section, "what | found").items()}
    assert not any("failed" in check for check in checks)
    minutes = _seconds_of(checks) / 60
    assert f"whole, took {minutes:.1f} minutes" in section and minutes < 8
    farthest = [value for what, value in found["precision"].items() if "farthest" in what]
    assert table["scores in mixed precision, farthest from the CPU's"] == f"{100 * max(farthest):.2f} %"
    units = [row["unit"] for check in checks if check["check"] == "scoring" for row in check["rows"][:2]]
    bare, ours = (float(re.search(r"(\d+) MiB", unit)[1]) for unit in units)
    scoring = found["scoring"]
    cost = f"{scoring['ratio']:.2f}, {ours / bare:.2f}"
    assert table["scoring from files / bare sliding window on images in memory: time, device memory"] == cost
    shares = [scoring[f"kernels' share of the {name} time"] for name in ("scoring", "bare pass's")]
    assert table["share of the time in kernels: scoring, bare sliding window"] == "{:.2f}, {:.2f}".format(*shares)
    beside = f"{found['predict']['select beside it']:.2f}"
    assert table["`select` from raw scans / `nnUNetv2_predict --save_probabilities`, time"] == beside
    ct, training = found["ct"], found["training"]
    seconds = ct["scoring, 118 classes, (600, 512, 512)"]
    memory = ct["device memory at its highest, scoring"] / 1024, ct["host memory at its highest, scoring"]
    told = f"{seconds:.1f} s, {memory[0]:.1f} GiB, {memory[1]:.1f} GiB"
    assert table["CT of 512 × 512 × 600 voxels, 118 classes: time, memory of device and host"] == told
    ratios = ct["scoring beside the bare forward pass"], ct["device memory beside it"]
    assert table["that CT / bare sliding window: time, device memory"] == "{:.2f}, {:.2f}".format(*ratios)
    share = training["80 cases a query, stride 40 × 250 steps: its share"]
    assert table["query over 80 cases every 40 epochs of 250 steps, share of the training"] == f"{100 * share:.1f} %"


def _seconds_of(checks: list[dict]) -> float:
    """Of the whole script: the last checks run side by side."""
    spent = {check["check"]: check.get("seconds", 0) for check in checks}
    together = ("precision", "resume", "ddp", "guarded")
    return sum(seconds for name, seconds in spent.items() if name not in together) + max(map(spent.get, together))


def test_the_table_of_the_trained_gate_is_that_of_its_rows(script) -> None:
    gates, judged = script("gate"), _judged(script)
    few = judged[(judged["unit"] != "one by one mix") | (judged["labels"] > 1)].copy()
    few.loc[few["unit"] == "one by one mix", "labels"] = 2  # the table shows two and three together
    every = gates.summary(few).set_index(["unit", "strategy", "pair"]).sort_index()
    columns = {"guarded": "guarded", "three_quarters": "0.75", "interpolated": "0.5", "plain": "1"}
    head = PAGE[PAGE.index("| one query |") :].partition("\n")[0]
    sources = every.loc[("slice", "foreground_random")]["source"]
    assert head == "| one query | " + " | ".join(f"{p} ({sources[p]:.3f})" for p in PAIRS) + " |"
    units = {
        "three whole scans": "three",
        "two rounds of three": "two rounds",
        "three whole scans, mix": "three mix",
        "two rounds of three, mix": "two rounds mix",
        "two or three, one by one, mix": "one by one mix",
    }
    for way, cells in _table(PAGE, "one query |").items():
        recipe, _, more = way.partition(", ")
        by = re.search(r"by (\w+)$", more)
        unit = units.get(more.removesuffix(f", by {by[1]}") if by else more, "slice")
        at = unit, by[1] if by else "foreground_random"
        for pair, cell in zip(PAIRS, cells, strict=True):
            if not cell:
                assert (*at, pair) not in every.index
                continue
            row, column = every.loc[(*at, pair)], columns[recipe]
            shown = f"{row[column]:.3f}, {row[column + ' worst']:+.3f}, {row[column + ' worse']:.0f} of {row['networks']:.0f}"
            assert cell == shown.replace("-", "−"), (way, pair)
    others = judged[(judged["strategy"] != "foreground_random") & (judged["unit"] == "three mix")]
    change = others["guarded"] - others["source"]
    by_pair = change.groupby(others["pair"]).mean()
    told = ", ".join(f"{by_pair[pair]:+.3f} on {pair}" for pair in PAIRS)
    assert set(others["strategy"]) == {"mmacts", "assft"}
    told += f"; assft is up to {_behind(others[others['strategy'] == 'assft']).max():.3f} behind."
    assert f"{(change < 0).sum()} of {len(change)} networks are worse than their source; {told}" in PAGE
    random = judged[judged["strategy"] == "foreground_random"]
    slices = random[random["unit"] == "slice"]
    of_slices = _behind(slices)
    whole = random[random["unit"].str.endswith("mix")]
    at_most = max(_behind(group).max() for _, group in whole[whole["labels"] > 1].groupby(["unit", "labels"]))
    of_one = _behind(whole[whole["labels"] == 1]).max()
    with_one = f"{at_most:.3f} with whole scans and mix ({of_one:.3f} with one label)"
    assert f"at most {of_slices.max():.3f} behind the best fixed α with slices, and {with_one}." in PAGE
    costs = f"at most {at_most:.3f} ({of_one:.3f} with one label); slices"
    assert f"whole scans: three to four times the training time, {costs}" in FINE_TUNING
    assert f"in the first round, at most {of_slices.max():.3f} |" in FINE_TUNING
    lost = (whole["guarded"] - whole["source"])[lambda change: change < -0.005]
    said = f"were with whole scans, at most by {-lost.min():.3f}, none of {len(slices)} with slices."
    assert f"With the default, {len(lost)} of {len(whole)} {said}" in PAGE
    assert (every["guarded worse"].drop(["one by one mix"]) == 0).all()
    twice = gates.judge(pd.read_csv(ROOT / "benchmarks" / "results" / "gate_two_rounds_of_slices.csv"))
    twice = twice.groupby("pair")["guarded"].agg(["mean", "size"])
    told = ", ".join(
        f"{twice['mean'][pair]:.3f} on {pair}" for pair in ("diseased hearts", "glioma", "hearts", "hippocampus")
    )
    assert f"After a second round of slices: {told} (two networks each)." in PAGE and set(twice["size"]) == {2}
    assert every.loc[("slice", "foreground_random", "hippocampus"), "opened"] == 0
    back = slices[slices["alpha"] < 0.5]
    assert list(back["pair"]) == ["diseased hearts", "glioma"] and (back["0.5"] > back["0.25"]).all()


def test_how_tight_the_certificate_is_is_that_of_its_rows(script) -> None:
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / "certificate.csv", dtype={"case": str, "run": str})
    found = script("certificate").judge(rows).query("alpha == 0.75").set_index("pair")
    text = PAGE[PAGE.index("**The certificate**") :].partition("\n\n")[0]
    pairs = ["glioma", "hearts", "diseased hearts", "hippocampus"]
    assert f"{found['networks'].sum()} networks" in text
    assert "guaranteed bounds of " + ", ".join(f"{found['bound'][pair]:.2f} on {pair}" for pair in pairs) + "." in text
    assert "It differed by " + ", ".join(f"{found['difference'][pair]:.2f}" for pair in pairs) + "." in text


def test_what_agreement_would_do_with_one_label_is_that_of_its_rows(script) -> None:
    found = script("one_label").judge(pd.read_csv(ROOT / "benchmarks" / "results" / "one_label.csv"))
    found = found[(found["labels"] == 1) & (found["pair"] == "all")].set_index("way")
    agreement, floor = found.loc["agreement"], found.loc["0.25"]
    assert "was always 0.5 there, and did more harm" in guarded_choice.__doc__
    assert agreement.equals(found.loc["0.5"]) and agreement["alpha"] == 0.5
    assert agreement["mean"] <= floor["mean"] and agreement["worst"] < floor["worst"]


def test_what_mixing_gained_is_that_of_its_rows() -> None:
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / "mixing.csv")
    dice = rows[rows["alpha"] == 0.75].pivot_table(index=["pair", "seed"], columns="setting", values="dice")
    slices, scans = ((dice[f"{what}-mix"] - dice[what]).dropna() for what in ("s30", "w3"))
    text = PAGE[PAGE.index("**The unlabelled pool**") :].partition("\n\n")[0]
    assert f"{slices.mean():+.3f} with 30 slices (better in {(slices > 0).sum()} of {len(slices)})" in text
    assert f"{scans.mean():+.3f} with three whole scans ({(scans > 0).sum()} of {len(scans)})" in text
    single = (dice["w1-mix"] - dice["w1"]).dropna()
    assert f"{single.mean():+.3f} with one ({(single > 0).sum()} of {len(single)})" in text
    assert len(slices) == len(scans) == len(single) == len(dice)
    boxes = pd.concat([dice["w3-weak"] - dice["w3-mix"], dice["s30-weak"] - dice["s30-mix"]])
    first = pd.concat([dice["w3-first"] - dice["w3"], dice["w1-first"] - dice["w1"]])
    longer, of_one = dice["w3@480"] - dice["w3"], dice["w1"] - dice["w1@40"]
    said = (
        f"Without boxes {boxes.mean():+.3f}, the first two stages alone {first.mean():+.3f}, 160 in place of 40 steps for each of "
        f"three scans {longer.mean():+.3f}, 120 for one {of_one.mean():+.3f}."
    )
    assert said.replace("-", "−") in text
    steps = (
        pd.read_csv(ROOT / "benchmarks" / "results" / "mixing_memory.csv").groupby("way")[["seconds", "mib"]].median()
    )
    seconds, memory = steps.loc["mix"] / steps.loc["plain"]
    assert f"A step takes {seconds:.1f} times as long as a plain one, with {memory:.2f} of its memory" in text
    trained = pd.read_csv(ROOT / "benchmarks" / "results" / "mixing_trainers.csv")
    runs = trained.pivot_table(index=["unit", "pair", "seed"], columns="recipe", values="dice")
    gain = runs["three_quarters:unlabelled=mix"] - runs["three_quarters"]
    most = max(gains.mean() for _, gains in gain["slice"].groupby("pair"))
    assert f"with slices it gained at most {most:.2f}." in FINE_TUNING
    (line,) = (line for line in text.splitlines() if line.startswith("nnU-Net's own trainer, slices: "))
    for pair, gains in gain["slice"].groupby("pair"):
        told = f"{gains.mean():+.3f} on {pair} ({(gains > 0).sum()} of {len(gains)})"
        assert told.replace("-", "−") in line, pair


def test_what_the_guard_changed_is_that_of_its_rows() -> None:
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / "guard.csv")
    rows = rows[(rows["alpha"] == 0.75) & (rows["thresholds"] == "fixed")].set_index("pair")
    text = PAGE[PAGE.index("**The guard of `predict`**") :].partition("\n\n")[0]
    touched = rows[rows["touched"] > 0]
    assert f"{rows['networks'].sum()} networks" in text and list(touched.index) == ["glioma", "diseased hearts"]
    for pair, row in touched.iterrows():
        assert f"{pair} {row['plain']:.3f} → {row['guard']:.3f}" in text
    changed = f"Of {touched['touched'].sum()} changed predictions, {touched['better'].sum()} became better"
    assert f"{changed}; the worst lost {-touched['worst'].min():.3f}." in text


def test_what_a_forecast_is_worth_is_that_of_its_rows() -> None:
    results = ROOT / "benchmarks" / "results"
    text = PAGE[PAGE.index("## Forecast") : PAGE.index("## Cost")]
    sets = [(pair, form) for pair in ("cardiac", "glioma") for form in ("2d", "3d_fullres")] + [
        ("hippocampus", "3d_fullres")
    ]
    ranks = pd.concat(
        pd.read_csv(results / file).rename(columns={"measure": "quantity"}) for file in ("forecast.csv", "asd.csv")
    ).set_index(["quantity", "pair", "configuration"])["spearman"]
    judged = pd.read_csv(results / "forecast_calibration.csv").query("quality != 'none'")
    source = judged[judged["alpha"] == 0].set_index(["labels", "pair", "configuration"])
    table = {name: cells[0].split(", ") for name, cells in _table(PAGE, "source network | hearts").items()}
    for name, quantity in (
        ("`forecast`", "forecast"),
        ("ASD", "ASD class_balanced, support 100"),
        ("1 − confidence", "1 - confidence"),
    ):
        found = ranks[quantity].groupby(level=[0, 1]).last()
        assert table[name] == [f"{found[one]:.2f}".replace("-", "−") for one in sets], name
    assert table["off without labels"] == [f"{source['error'][(0, *one)]:.2f}" for one in sets]
    for name, labels in (("with three", 3), ("with five", 5)):
        own = source.loc[labels]
        assert table[name] == [f"{own['error'][one]:.2f} ({own['floor'][one]:.2f})" for one in sets], name
    missed = source.query("labels > 0 and error >= 0.055")
    assert set(missed.index.get_level_values("pair")) == {"glioma"} and (missed["floor"] >= missed["error"]).all()
    rows = judged[judged["quality"] == "source"].set_index(["alpha", "labels", "pair"])["error"][0.75]
    three, five = ([f"{rows[labels][pair]:.2f}" for pair in ("cardiac", "glioma", "hippocampus")] for labels in (3, 5))
    assert "{} on hearts, {} on glioma and {} on hippocampus with three".format(*three) in text
    assert "{}, {} and {} with five.".format(*five) in text
    covered = 100 * judged["coverage"]
    assert f"held in {covered.min():.0f} to {covered.max():.0f} % of the draws" in text
    gains = pd.read_csv(results / "forecast_next_label.csv").groupby(["prediction", "pair"])["error"].mean()
    mean, zero, half = (f"{gains[name].mean():.3f}" for name in ("mean", "nothing", "half"))
    assert f"zero misses it by {zero}, the other pairs' mean by {mean}, half the last gain by {half}" in text
    stops = pd.read_csv(results / "forecast_stopping.csv")
    stop = stops.query("rule == 'gate' and labels == 4 and cases == 3 and threshold == 0.02").set_index("curves")
    assert f"in {stop.loc['all', 'stopped']} of {stop.loc['all', 'of']} campaigns" in text
    assert stop.loc["glioma", "stopped"] == stop.loc["all", "stopped"] and stop.loc["all", "lost"] == 0
    assert f"stood {stop.loc['all', 'left_where_on']:.2f} above" in text
    honest = stops.query("rule == 'left out' and labels == 4 and curves == 'all'")
    assert f"on the other pairs, it came in {honest['stopped'].item()}." in text and honest["lost"].item() == 0
    maps = pd.read_csv(results / "map_calibration.csv").groupby(["region", "pair"]).mean(numeric_only=True)
    hearts, glioma = (
        f"{maps.loc[('band', pair), 'ece_after']:.2f} in place of {maps.loc[('band', pair), 'ece_before']:.2f} on {name}"
        for pair, name in (("cardiac", "hearts"), ("glioma", "glioma"))
    )
    assert f"p is off by {hearts}, {glioma}" in text
    assert (maps.loc["all", "ece_after"] < maps.loc["all", "ece_plain"]).all()
    cost = pd.read_csv(results / "forecast_cost.csv").set_index("configuration")["ratio"]
    assert f"{cost['2d']:.1f} scoring passes in `2d` and {cost['3d_fullres']:.1f} in 3-D" in text


def test_what_three_labels_of_strata_are_worth_is_that_of_the_paired_runs(script) -> None:
    paired = script("paired_picks").judge(pd.read_csv(ROOT / "benchmarks" / "results" / "paired_picks.csv"))
    paired = paired[(paired["alpha"] == 0.75) & (paired["arm"] == "strata")].set_index(["unit", "pool"])
    three, five = paired.loc[("case", "all")], paired.loc[("slice", "all")]
    runs = paired["runs"].drop(index="all", level="pool").groupby("unit").sum()
    said = (
        f"over {runs['case']} paired runs, `strata` differs from `foreground_random` by {three['gain']:+.3f} (95 % interval "
        f"{three['low']:.3f} to {three['high']:+.3f}); with 15 slices of five scans, by {five['gain']:+.3f} over {runs['slice']}"
    )
    assert said.replace("-", "−") in PAGE


def test_what_difficulty_is_worth_in_late_rounds_is_that_of_its_rows(script) -> None:
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / "late_picks.csv")
    found = script("paired_picks").judge(rows, "strata:easy")
    found = found[found["alpha"] == 0.75].set_index("pool")
    one, runs = found.loc["all"], found["runs"].drop("all").sum()
    said = f"is worth {one['gain']:+.3f} ({one['low']:.3f} to {one['high']:+.3f}; {runs} runs)"
    assert said.replace("-", "−") in PAGE


def test_what_goes_with_the_worth_of_sets_and_of_slices_is_that_of_their_tables() -> None:
    results = ROOT / "benchmarks" / "results"
    sets = pd.read_csv(results / "value_of_labels_sets.csv")
    known = pd.read_csv(results / "value_of_labels_sets_properties.csv")
    known = known[(known["pool"] == "mean") & (known["alpha"] == 0.75)].set_index(["labels", "property"]).sort_index()
    names = (
        "mean worth of the single cases",
        "mean typicality",
        "coverage",
        "mean distance to the source",
        "spread of volume",
    )
    alone, typical, coverage, source, spread = (f"{known.loc[(2, name), 'rho']:+.2f}" for name in names)
    counts = sets.drop_duplicates(["pool", "cases"]).groupby("labels").size()
    said = (
        f"For {counts[2]} pairs, it is {alone} with the mean worth of the scans alone, {typical} with typicality, {coverage} with "
        f"coverage, {source} with distance to the source, {spread} with spread of volume; for {counts[3]} triples, "
        f"{known.loc[(3, names[0]), 'rho']:+.2f} with that mean, and not certain for the others."
    )
    assert said.replace("-", "−") in PAGE
    assert (known.loc[[(2, name) for name in names], "p_holm"] < 0.05).all()
    assert (known.loc[3].drop(names[0])["p_holm"] > 0.05).all()
    picks = (
        pd.read_csv(results / "value_of_slices_picks.csv")
        .query("alpha == 0.75 and strategy == 'strata'")
        .set_index("pool")
    )
    passed = int((picks.drop("all")["above"] >= 0.3).sum())
    assert passed == 1 and picks.loc["all", "p"] < 0.001
    assert f"with three slices in place of each scan, on one ({picks.loc['all', 'above']:+.2f}, p < 0.001)" in PAGE


def test_the_table_of_first_picks_is_that_of_the_look_up_table() -> None:
    results = ROOT / "benchmarks" / "results"
    cases, picks, known = (
        pd.read_csv(results / f"value_of_labels_{name}.csv") for name in ("cases", "picks", "properties")
    )
    chance = picks[picks["alpha"] == 0.75].set_index(["strategy", "pool"])["p"]
    table, head = _table(PAGE, "first pick |"), PAGE[PAGE.index("\n| first pick |") + 1 :].splitlines()[0]
    for column, pool in enumerate(("diseased", "cine", "glioma_back", "hippocampus")):
        own = cases[(cases["pool"] == pool) & (cases["alpha"] == 0.75)]
        change = own["change"]
        assert f"({len(own)} scans)" in head.split("|")[2 + column], pool
        for first, cells in table.items():
            if first == "any scan: change of Dice":
                shown = f"{change.mean():+.3f} ± {change.std():.3f}"
            elif first == "the best scan":
                shown = f"{change.max():+.3f}"
            else:
                way = first.strip("`").replace("`, ", ", ")
                q = own[f"p {way}"] / own[f"p {way}"].sum()
                above = (q @ change - change.mean()) / change.std()
                shown = f"{above:+.2f} ({max(chance[way, pool], 0.001):.{2 if chance[way, pool] >= 0.01 else 3}f})"
            assert cells[column] == shown.replace("-", "−"), (first, pool)
    mean = known[(known["pool"] == "mean") & (known["alpha"] == 0.75)].set_index("property")
    section = PAGE[PAGE.index("benchmarks/value_of_labels.py") :].partition("\n## ")[0]
    for name in ("typicality, whole image", "density"):
        assert f"{mean.loc[name, 'rho']:+.2f}" in section and mean.loc[name, "p_holm"] < 0.002
    strata = picks[(picks["strategy"] == "strata") & (picks["pool"] != "all")]
    passed = (strata["above"] >= 0.3).groupby(strata["alpha"]).sum()
    words = ("no pool", "one pool", "two pools", "three pools", "four pools")
    assert f"{words[passed[0.75]]} with α = 0.75 and {words[passed[1.0]].split()[0]} with α = 1" in section
