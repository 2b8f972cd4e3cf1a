"""Does the gate of ``guarded`` open where it should? Judged on trained networks, at every alpha.

    python benchmarks/gate.py measure NAME BENCHMARK_FOLDER ... --csv results/gate.csv
    python benchmarks/gate.py judge results/gate.csv

The folder is that of a benchmark with ``--recipes guarded`` (``slices.py ... --recipe guarded``) whose legs have their checkpoints; its
training is that of every other interpolation to the bit. One row per network, alpha and case: Dice of a test case (``test``: mean over
classes, preprocessed arrays, every third case where there are more than 40), or of a case that judged (``cross_fit``, ``prequential``),
with its ``weight``.
The rule is read from the package, so that ``judge`` says what today's gate would do. Rows of a second round of slices are in
``results/gate_two_rounds_of_slices.csv``, of scans labelled one by one (``one_by_one.py``) in ``results/one_by_one.csv``, of networks
that also learned from unlabelled cases (``--recipe guarded:unlabelled=mix``) in ``results/gate_mixed.csv`` and
``results/one_by_one_mixed.csv`` (``judge --mixed``; in the latter, seeds 1 to 5 were trained on a GPU, the others on a CPU).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import guard
import pandas as pd

from nnunet_active.training.guarded_choice import came_one_by_one, counting_evidence, gate, may_go_far

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
FIXED = (0.25, 0.5, 0.75, 1.0)
NETWORK = ["pair", "unit", "strategy", "labels", "seed"]
WORSE = 0.005


def measure(name: str, root: Path, raw: Path) -> pd.DataFrame:
    """Rows of every network of one benchmark."""
    found = guard.measure(name, root, raw, ALPHAS, every=True)
    test = found.groupby(["run", "alpha", "case"])["dice"].mean().reset_index()
    rows = []
    for run, cases in test.groupby("run"):
        (file,) = root.glob(f"runs/*__{run}/result.json")
        result = json.loads(file.read_text())
        spec, last = result["spec"], result["rounds"][-1]
        labels, unit = last["labels"], spec["settings"].get("unit", "case")
        at = {"pair": name, "unit": unit, "strategy": spec["settings"]["strategy"], "labels": labels}
        at |= {"scans": len(last["labelled"]), "seed": spec["seed"]}
        rows += [{**at, "kind": "test", **row} for row in cases.drop(columns="run").to_dict("records")]
        for judged in last["judged"]:
            case = {name: judged.pop(name) for name in ("kind", "case", "weight") if name in judged}
            rows += [{**at, **case, "alpha": float(alpha), "dice": dice} for alpha, dice in judged.items()]
    return pd.DataFrame(rows)


def judge(rows: pd.DataFrame, mixed: bool = False) -> pd.DataFrame:
    """One row per network: Dice of the source, of every fixed alpha, and of the alpha that the gate takes."""
    found = []
    for key, network in rows.groupby(NETWORK):
        test = network[network["kind"] == "test"].groupby("alpha")["dice"].mean()
        # nothing is cross-fitted there by now; the rows of older networks stay, and show why
        far = may_go_far(mixed, key[2])
        of_gate = network[~network["kind"].isin(["test", "cross_fit"] if far else ["test"])]
        kinds = {
            kind: part.pivot_table(index="case", columns="alpha", values="dice")
            for kind, part in of_gate.groupby("kind")
        }
        kinds = counting_evidence(kinds)
        judged = pd.concat([pd.DataFrame(columns=ALPHAS, dtype=float), *kinds.values()])
        weights = of_gate.groupby("case")["weight"].first() if "weight" in of_gate else pd.Series(1.0, judged.index)
        weights = weights.reindex(judged.index)
        scans = int(network["scans"].iloc[0])
        alpha = gate(judged, scans, weights.fillna(1.0), came_one_by_one(kinds, scans), far)
        fixed = {f"{a:g}": test[a] for a in FIXED}
        found.append(
            dict(zip(NETWORK, key, strict=True)) | {"source": test[0.0], "alpha": alpha, "guarded": test[alpha]} | fixed
        )
    return pd.DataFrame(found)


def summary(networks: pd.DataFrame) -> pd.DataFrame:
    """Of every way, per pair, unit and strategy: mean Dice, worst change, how many networks lose more than `WORSE`."""
    lines = []
    for key, group in networks.groupby(NETWORK[:-1]):
        ways = group[["guarded", *(f"{a:g}" for a in FIXED)]]
        change = ways.sub(group["source"], axis=0)
        line = dict(zip(NETWORK[:-1], key, strict=True)) | {"networks": len(group), "source": group["source"].mean()}
        line["opened"] = int((group["alpha"] >= 0.75).sum())
        for way in ways:
            line |= {
                way: ways[way].mean(),
                f"{way} worst": change[way].min(),
                f"{way} worse": int((change[way] < -WORSE).sum()),
            }
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    """Measure, or print what the gate would do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    guard.add_measure(commands)
    judging = commands.add_parser("judge")
    judging.add_argument("csv", type=Path)
    judging.add_argument("--mixed", action="store_true", help="the networks also learned from unlabelled cases")
    args = parser.parse_args()
    if args.command == "judge":
        print(summary(judge(pd.read_csv(args.csv), args.mixed)).round(4).to_string(index=False))
        return
    guard.add_rows(args.csv, [measure(args.name, folder, args.raw) for folder in args.folders])


if __name__ == "__main__":
    main()
