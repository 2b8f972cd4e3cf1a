"""Are the pseudo-labels that ASSFT would keep better than those it would leave out?

    python benchmarks/pseudo_label_selection.py glioma cardiac --csv benchmarks/results/pseudo_label_selection.csv

The source model, not adapted, predicts every labelled case of the target. Three random cases count as labelled, 500 times; of the
others the reliable ones are selected by each rule, and the mean true Dice of the selected and of the unselected is compared. No
network is trained, so this says nothing about later rounds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from asd_against_entropy import PAIRS, parser_of_pairs, places_of, score_pair
from workspace import PLANS, Workspace, test_data

RULES = {
    "confident half and nearer half": (0.5, 0.5),
    "confident half": (0.5, 1.0),
    "nearer half": (1.0, 0.5),
    "confident third and nearer half": (1 / 3, 0.5),
}
LABELLED = 3
DRAWS = 500


def embeddings(pair: str, configuration: str, work: Path, cases: list[str]) -> np.ndarray:
    """(n, d) of the cases, by the source network; ``score_pair`` has planned and preprocessed them in ``work``."""
    import torch

    from nnunet_active.data.cases import CaseStore
    from nnunet_active.models.source_model import carry_over, read_source_model
    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network
    from nnunet_active.query.pool_scoring import score_cases

    source_name, target, _ = PAIRS[pair]
    model = test_data() / "models" / source_name / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    space = Workspace(work / pair, target, {configuration: model})
    plans, dataset_json = (
        json.loads(file.read_text()) for file in (space.preprocessed / f"{PLANS}.json", space.raw / "dataset.json")
    )
    source, network = read_source_model(model), build_network(plans, configuration, dataset_json)
    carry_over(network, source, plans, dataset_json)
    window = SlidingWindow(network.eval(), plans, configuration, dataset_json, torch.device("cpu"))
    scored = score_cases(window, CaseStore(space.preprocessed, plans, configuration), cases)
    if list(scored.table.index) != cases:
        raise SystemExit("\n".join(scored.problems.values()))
    return scored.arrays["embedding"]


def compare(
    table: pd.DataFrame, z: np.ndarray, rule: tuple[float, float], rng: np.random.Generator
) -> dict[str, float]:
    """Means over the draws."""
    from nnunet_active.scoring.reliability import reliability, semantic_distance

    dice = 1 - table["true_error"].to_numpy()
    confidence = table["confidence"].fillna(table["mean_max_probability"]).to_numpy()
    empty = (table["foreground_voxels"] == 0).to_numpy()
    rows = []
    for _ in range(DRAWS):
        labelled = rng.choice(len(table), LABELLED, replace=False)
        rest = np.setdiff1d(np.arange(len(table)), labelled)
        distance, _ = semantic_distance(z[rest], z[labelled])
        judged = reliability(
            confidence[rest], distance, empty[rest], confident_fraction=rule[0], nearer_fraction=rule[1]
        )
        chosen = judged["reliable"].to_numpy()
        if chosen.any() and not chosen.all():
            rows.append((chosen.sum(), dice[rest][chosen].mean(), dice[rest][~chosen].mean()))
    found = np.array(rows)
    return {
        "draws": len(found),
        "mean_selected_cases": found[:, 0].mean(),
        "dice_selected": found[:, 1].mean(),
        "dice_unselected": found[:, 2].mean(),
        "selected_higher": (found[:, 1] > found[:, 2]).mean(),
    }


def main() -> None:
    args = parser_of_pairs(__doc__).parse_args()
    raw, work = places_of(args, "pseudo_label_selection")
    rows = []
    for pair in args.pairs:
        table = score_pair(pair, args.configuration, raw, work)
        z = embeddings(pair, args.configuration, work, list(table.index))
        for name, rule in RULES.items():
            row = {"pair": pair, "configuration": args.configuration, "n": len(table), "rule": name}
            rows.append(row | compare(table, z, rule, np.random.default_rng(0)))
    result = pd.DataFrame(rows)
    print(result.round(3).to_string(index=False))
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        result.to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
