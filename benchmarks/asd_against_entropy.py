"""Does ASSFT's difficulty (ASD) know better than the whole-volume entropy where the source model is wrong?

    python benchmarks/asd_against_entropy.py glioma cardiac -c 2d --csv benchmarks/results/asd.csv

The source model, as it is carried over to the target, predicts every labelled case of the target; its true error is 1 - Dice (mean
over the classes that are in the label or in the prediction, on the preprocessed grid). For each measure: Spearman's rank correlation
with the true error over the cases, its 95 % interval (percentiles of a bootstrap over cases), that of its difference from
whole-volume entropy on the same resampled cases, and the mean true error of the three and of the five cases that the measure puts
first, which is what a query gets. Case sets: glioma 203 -> 204 (29 cases, from a few to thousands of voxels), cardiac 201 -> 202 (20
cases, three classes), hippocampus 003 -> 004 (the first 60 cases, no domain shift: the control).

All measures come from one forward pass per case. The variants of ASD are those of ``strategies.assft`` (its own code is called).
(A floor of voxels, which asd.csv has too, did worse than no floor and is gone.)
Everything is deterministic; the scores of a pair are kept in ``--work`` and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from workspace import ENDING, PLANS, Workspace, test_data

if TYPE_CHECKING:
    from nnunet_active.data.cases import CaseStore
    from nnunet_active.nnunet.inference import SlidingWindow

PAIRS = {
    "glioma": ("Dataset203_GliomaSource", "Dataset204_GliomaTarget", None),
    "cardiac": ("Dataset201_CardiacCine", "Dataset202_CardiacLGE", None),
    "hippocampus": ("Dataset003_HippocampusSource", "Dataset004_Hippocampus", 60),
}
REGIONS = ("predicted", "class_balanced", "soft")
SUPPORTS = (0, 100, 500, 2000)
REFERENCE = "entropy"
RESAMPLES = 5000


def parser_of_pairs(description: str) -> argparse.ArgumentParser:
    """The flags of every script that works on case sets of `PAIRS`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", choices=PAIRS)
    parser.add_argument("-c", dest="configuration", default="2d")
    parser.add_argument("--raw", type=Path, help="folder with the target data sets (default: those of the test data)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("--csv", type=Path)
    return parser


def places_of(args: argparse.Namespace, name: str) -> tuple[Path, Path]:
    """Folder of the target data sets, and the one to work in, which is made."""
    work = args.work or Path(tempfile.mkdtemp(prefix=f"{name}_"))
    work.mkdir(parents=True, exist_ok=True)
    return args.raw or test_data() / "nnUNet_raw", work


def in_one_process() -> None:
    """One thread, no workers, nothing compiled, unless the environment says otherwise."""
    for name, value in (("nnUNet_compile", "f"), ("nnUNet_def_n_proc", "1"), ("OMP_NUM_THREADS", "1")):
        os.environ.setdefault(name, value)


def score_pair(pair: str, configuration: str, raw: Path, work: Path) -> pd.DataFrame:
    """One row per labelled case: all statistics of the source model's prediction, and its true error."""
    kept = work / f"{pair}_{configuration}.csv"
    if kept.is_file():
        return pd.read_csv(kept, index_col="case")
    from nnunet_active.scoring.statistics import score_logits

    store, window = prepare_pair(pair, configuration, raw, work)
    rows = {}
    for case in store.labelled_identifiers():
        logits = window.logits(store.load_image(case))
        row = score_logits(logits, float(np.prod(store.spacing(case)))).scalars
        truth = truth_of(store, case)
        row["true_error"] = 1 - mean_dice(logits.argmax(0).numpy(), truth, logits.shape[0])
        row["true_voxels"] = float((truth > 0).sum())
        rows[case] = row
        print(
            f"{pair} {case}: error {row['true_error']:.3f}, {row['foreground_voxels']:.0f} voxels predicted", flush=True
        )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.to_csv(kept, index_label="case")
    return table


def prepare_pair(pair: str, configuration: str, raw: Path, work: Path) -> tuple[CaseStore, SlidingWindow]:
    """The preprocessed target, and the source network as it is carried over to it."""
    import torch

    from nnunet_active.data.cases import CaseStore
    from nnunet_active.models.source_model import carry_over, read_source_model
    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network

    source_name, target, most = PAIRS[pair]
    model = test_data() / "models" / source_name / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    space = Workspace(work / pair, target, {configuration: model})
    labels = sorted((raw / target / "labelsTr").glob(f"*{ENDING}"))[:most]
    if not labels:
        raise SystemExit(f"{target} has no labels in {raw}; give the folder that has them with --raw.")
    dataset_json = json.loads((raw / target / "dataset.json").read_text())
    if not space.raw.is_dir():
        (space.raw / "labelsTr").mkdir(parents=True)
        for label in labels:
            case = label.name.removesuffix(ENDING)
            (space.raw / "labelsTr" / label.name).symlink_to(label.resolve())
            space.add_images(case, sorted((raw / target / "imagesTr").glob(f"{case}_????{ENDING}")))
        space.prepare(dataset_json)
    plans = json.loads((space.preprocessed / f"{PLANS}.json").read_text())
    store = CaseStore(space.preprocessed, plans, configuration)
    source = read_source_model(model)
    network = build_network(plans, configuration, dataset_json)
    carry_over(network, source, plans, dataset_json)
    return store, SlidingWindow(network.eval(), plans, configuration, dataset_json, torch.device("cpu"))


def truth_of(store: CaseStore, case: str) -> np.ndarray:
    """Its label map (Z, Y, X), 0 outside the scan."""
    import blosc2

    return np.maximum(np.asarray(blosc2.open(str(store.folder / f"{case}_seg.b2nd"), mode="r")[:])[0], 0)


def mean_dice(predicted: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Over the foreground classes that are in either; 1 where there is none."""
    dice = []
    for value in range(1, classes):
        a, b = predicted == value, truth == value
        if a.any() or b.any():
            dice.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return float(np.mean(dice)) if dice else 1.0


def measures(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Every measure, high where it calls a case difficult."""
    from nnunet_active.strategies import get_strategy
    from nnunet_active.strategies.pool import ScoredPool

    pool = ScoredPool(table, {"embedding": np.zeros((len(table), 1))})
    found = {
        REFERENCE: table["mean_entropy"].to_numpy(),
        "least_confidence": 1 - table["mean_max_probability"].to_numpy(),
        "margin": -table["mean_margin"].to_numpy(),
        "entropy x predicted voxels (mmActS)": (table["mean_entropy"] * table["foreground_voxels"]).to_numpy(),
        "few predicted voxels": -table["foreground_voxels"].to_numpy(),
        "1 - confidence": 1 - table["confidence"].fillna(0).to_numpy(),
    }
    switches = [(region, support, "mean") for region, support in product(REGIONS, SUPPORTS)]
    switches += [(region, 100, "highest") for region in REGIONS]
    for region, support, empty in switches:
        strategy = get_strategy("assft", region=region, support=support, empty=empty)
        difficulty = strategy.query(pool, 1, np.random.default_rng(0)).components["difficulty"]
        name = f"ASD {region}, support {support}" + (f", empty {empty}" if empty != "mean" else "")
        found[name] = difficulty[table.index].to_numpy()
    return found


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho; 0 where one is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(spearmanr(x, y).statistic)


def evaluate(pair: str, configuration: str, table: pd.DataFrame) -> pd.DataFrame:
    """The figures of every measure."""
    error = table["true_error"].to_numpy()
    found = measures(table)
    draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    resampled = {name: np.array([correlation(x[draw], error[draw]) for draw in draws]) for name, x in found.items()}
    rows = []
    for name, values in found.items():
        order = np.argsort(-values, kind="stable")
        low, high = np.percentile(resampled[name], [2.5, 97.5])
        gain = resampled[name] - resampled[REFERENCE]
        gain_low, gain_high = np.percentile(gain, [2.5, 97.5])
        rows.append(
            {
                "pair": pair,
                "configuration": configuration,
                "cases": len(table),
                "measure": name,
                "spearman": correlation(values, error),
                "low": low,
                "high": high,
                "gain_over_entropy": correlation(values, error) - correlation(found[REFERENCE], error),
                "gain_low": gain_low,
                "gain_high": gain_high,
                "error_of_first_3": error[order[:3]].mean(),
                "error_of_first_5": error[order[:5]].mean(),
                "error_of_all": error.mean(),
                "voxels_of_first": table["foreground_voxels"].to_numpy()[order[0]],
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    args = parser_of_pairs(__doc__).parse_args()
    in_one_process()
    raw, work = places_of(args, "asd")
    tables = []
    for pair in args.pairs:
        table = score_pair(pair, args.configuration, raw, work)
        tables.append(evaluate(pair, args.configuration, table))
        print(tables[-1].drop(columns=["pair", "configuration", "cases"]).round(3).to_string(index=False), flush=True)
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        pd.concat(tables).round(4).to_csv(args.csv, mode="a", header=not args.csv.exists(), index=False)


if __name__ == "__main__":
    main()
