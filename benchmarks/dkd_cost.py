"""What DKD costs on top of scoring a pool, once the frozen source network's embeddings are cached.

    python benchmarks/dkd_cost.py --csv benchmarks/results/dkd_cost.csv

Real glioma cases (203 -> 204) and their source models, one thread, CPU. For every repeat a network that has moved away from the
source (so that nothing of it is cached) scores the pool twice, in turns: for ``entropy``, which needs the scoring pass alone, and for
``assft``, which also needs the source embeddings and entropies of every candidate and of ``--labelled`` labelled cases. The first
``assft`` query of all fills the cache of the source network and is reported as ``first``. Scoring labelled cases with the current
network is part of ``assft`` and not of ``entropy``: it is shown by itself as ``labelled``.

Columns: configuration, candidates, labelled, way, wall (s), cpu (s).
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from workspace import GLIOMA, PLANS, Workspace, glioma_cases, glioma_dataset_json, glioma_model, test_data

FIELDS = ("configuration", "candidates", "labelled", "way", "wall", "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-c", nargs="+", default=["2d", "3d_fullres"])
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--labelled", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    test_data()
    with tempfile.TemporaryDirectory(prefix="dkd_cost_") as folder:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (Path(folder) / name).mkdir()
            os.environ[name] = str(Path(folder) / name)
        rows = [row for configuration in args.c for row in measure(Path(folder), configuration, args)]
    for configuration in args.c:
        middle = {
            way: median(row["cpu"] for row in rows if (row["configuration"], row["way"]) == (configuration, way))
            for way in ("entropy", "assft", "labelled")
        }
        extra = middle["assft"] - middle["labelled"] - middle["entropy"]
        print(f"{configuration}: DKD adds {100 * extra / middle['entropy']:.1f} % to the scoring pass (processor time)")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)


def measure(root: Path, configuration: str, args: argparse.Namespace) -> list[dict]:
    """All measurements of one configuration."""
    import torch

    from nnunet_active.campaign.campaign import Campaign
    from nnunet_active.campaign.campaign_state import Roles
    from nnunet_active.campaign.place import Place
    from nnunet_active.campaign.settings import Settings
    from nnunet_active.data.cases import open_store
    from nnunet_active.data.plans import read_plans
    from nnunet_active.models.source_model import carry_over, read_source_model, source_folder
    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network
    from nnunet_active.query.pool_building import build_pool, open_cache
    from nnunet_active.query.pool_scoring import score_cases
    from nnunet_active.strategies.registry import get_strategy
    from nnunet_active.util.log import silent
    from nnunet_active.util.ranks import Ranks
    from nnunet_active.workspace import Workspace as opened

    torch.set_num_threads(1)
    workspace = Workspace(root, GLIOMA, {configuration: glioma_model(configuration)})
    everyone = glioma_cases()[: args.cases + args.labelled]
    if not workspace.raw.is_dir():
        workspace.add_glioma_cases(everyone)
    workspace.prepare(glioma_dataset_json())
    candidates, labelled = everyone[: args.cases], everyone[args.cases :]
    store, plans = open_store(GLIOMA, PLANS, configuration), read_plans(GLIOMA, PLANS)
    place = Place(workspace.preprocessed, configuration, PLANS, configuration)
    campaign = Campaign.create(place, Settings(), Roles(initial=labelled))
    source = read_source_model(source_folder(workspace.preprocessed, PLANS, configuration))
    dataset_json = glioma_dataset_json()
    network = build_network(plans, configuration, dataset_json)
    carry_over(network, source, plans, dataset_json)
    window = SlidingWindow(network, plans, configuration, dataset_json, torch.device("cpu"))
    rows: list[dict] = []

    def move() -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 + 1e-4)

    def ask(strategy: str, way: str) -> None:
        move()
        wall, cpu = time.perf_counter(), time.process_time()
        build_pool(opened.of(campaign), window, get_strategy(strategy), candidates, Ranks(), silent)
        keep(way, wall, cpu)

    def keep(way: str, wall: float, cpu: float) -> None:
        spent = {"wall": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - cpu, 3)}
        rows.append(
            {"configuration": configuration, "candidates": len(candidates), "labelled": len(labelled), "way": way}
            | spent
        )
        print(rows[-1], flush=True)

    ask("assft", "first")
    for repeat in range(args.repeats):
        for way in ("entropy", "assft") if repeat % 2 else ("assft", "entropy"):
            ask(way, way)
        move()
        wall, cpu = time.perf_counter(), time.process_time()
        score_cases(window, store, labelled, cache=open_cache(campaign))
        keep("labelled", wall, cpu)
    return rows


if __name__ == "__main__":
    main()
