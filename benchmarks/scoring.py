"""What it costs to score a pool: against the bare forward pass, and against ``nnUNetv2_predict --save_probabilities``.

    python benchmarks/scoring.py --csv benchmarks/results/scoring.csv
    python benchmarks/scoring.py --large --repeats 2 --csv benchmarks/results/scoring_large.csv

Real glioma cases (203 -> 204, three MR channels) and their source models, one thread, CPU, mirroring off; with ``--large`` one stretched case
of 160 x 256 x 256 voxels and four classes, ``2d``. Every measurement is made in a fresh process; the ways that are compared take turns, and
medians are reported, because the machine may be shared: then the processor time (of all processes together) is the steadier figure.

* **forward**: ``nnUNetPredictor.predict_sliding_window_return_logits`` on arrays that are in memory already.
* **score**: ``nnunet_active.pool_scoring.score_cases``, reading of the preprocessed cases, all statistics and the embedding included.
* **predict**: ``nnUNetv2_predict_from_modelfolder --save_probabilities --disable_tta -npp 1 -nps 1`` on the raw cases, then a process that reads the
  ``.npz`` files and computes the mean entropy with NumPy. With nnU-Net's default of three and three workers it needs more memory.

Peak memory of *score* is the peak resident set of its process or the sampled proportional set size, whichever is larger; that of *predict* the
sampled sum of the proportional set sizes over its processes (a short peak may be missed, which is in favour of *predict*).
"Beyond a tiny case" subtracts the same command on an image of 8 x 32 x 32 voxels, that is the start-up of Python, torch and the workers.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from measuring import Measured, run_measured
from workspace import (
    GLIOMA,
    PLANS,
    Workspace,
    glioma_cases,
    glioma_dataset_json,
    glioma_model,
    write_model_with_classes,
    write_resized_case,
)

CONFIGURATIONS = ("2d", "3d_fullres")
TINY = "tiny"
LARGE_SHAPE = (160, 256, 256)
SPACING = (2.0, 2.0, 5.0)  # that of the source model, so that neither way has to resample
FOUR_CLASSES = {"background": 0, "tumour": 1, "second": 2, "third": 3}
READ_AND_COMPUTE = """
import sys, pathlib, numpy as np
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.npz")):
    p = np.load(file)["probabilities"]
    print(file.stem, -(p * np.log(np.clip(p, 1e-10, 1))).sum(0).mean())
"""


def child(way: str, preprocessed: str, configuration: str, cases: list[str]) -> None:
    """Measured inside: the work alone, without the start of Python and the loading of the network."""
    import torch

    from nnunet_active.cases import CaseStore
    from nnunet_active.inference import SlidingWindow
    from nnunet_active.pool_scoring import score_cases
    from nnunet_active.source_model import build_network, carry_over, read_source_model, source_folder

    torch.set_num_threads(1)
    folder = Path(preprocessed)
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    dataset_json = json.loads((folder / "dataset.json").read_text())
    source = read_source_model(source_folder(folder, PLANS, configuration))
    network = build_network(plans, configuration, dataset_json)
    carry_over(network, source, plans, dataset_json)
    window = SlidingWindow(network, plans, configuration, dataset_json, torch.device("cpu"))
    store = CaseStore(folder, plans, configuration)
    wall = cpu = 0.0
    entropy: dict[str, float] = {}
    if way == "forward":
        predictor = window._predictor  # stock nnUNetPredictor, use_mirroring=False
        for case in cases:
            image = torch.from_numpy(store.load_image(case))
            before, before_cpu = time.perf_counter(), time.process_time()
            predictor.predict_sliding_window_return_logits(image)
            wall, cpu = wall + time.perf_counter() - before, cpu + time.process_time() - before_cpu
    else:
        before, before_cpu = time.perf_counter(), time.process_time()
        scored = score_cases(window, store, cases, progress=False)
        wall, cpu = time.perf_counter() - before, time.process_time() - before_cpu
        assert not scored.problems, scored.problems
        entropy = scored.table["mean_entropy"].to_dict()
    print(json.dumps({"wall": wall, "cpu": cpu, "entropy": entropy}))


class Bench:
    """Runs the ways on a workspace and keeps every measurement."""

    def __init__(self, workspace: Workspace, scratch: Path) -> None:
        self.workspace, self.scratch = workspace, scratch
        self.rows: list[dict] = []

    def ours(self, way: str, configuration: str, cases: list[str], experiment: str) -> tuple[Measured, dict]:
        arguments = ["--child", way, str(self.workspace.preprocessed), configuration, *cases]
        measured = run_measured([sys.executable, __file__, *arguments])
        inside = json.loads(measured.output.splitlines()[-1])
        self._note(experiment, way, configuration, cases, measured, inside["wall"], inside["cpu"])
        return measured, inside

    def predict(self, configuration: str, cases: list[str], experiment: str) -> tuple[Measured, dict]:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            images = self.workspace.links_to(cases, Path(folder) / "images")
            output = Path(folder) / "output"
            command = (
                "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as main; main()"
            )
            model = str(self.workspace.models[configuration])
            flags = ["-i", str(images), "-o", str(output), "-m", model, "-f", "0", "-device", "cpu"]
            flags += ["-npp", "1", "-nps", "1", "--save_probabilities", "--disable_tta", "--disable_progress_bar"]
            first = run_measured([sys.executable, "-c", command, *flags])
            second = run_measured([sys.executable, "-c", READ_AND_COMPUTE, str(output)])
        entropy = {line.split()[0]: float(line.split()[1]) for line in second.output.splitlines()}
        assert len(entropy) == len(cases), (entropy, first.output)
        total = Measured(
            first.wall + second.wall,
            first.cpu + second.cpu,
            max(first.tree_mib, second.tree_mib),
            max(first.own_mib, second.own_mib),
            second.output,
        )
        self._note(experiment, "predict", configuration, cases, total)
        return total, {"entropy": entropy}

    def _note(
        self,
        experiment: str,
        way: str,
        configuration: str,
        cases: list[str],
        measured: Measured,
        inside_wall: float | None = None,
        inside_cpu: float | None = None,
    ) -> None:
        row = {"experiment": experiment, "way": way, "configuration": configuration, "cases": len(cases)}
        row |= {"work_wall_s": inside_wall, "work_cpu_s": inside_cpu}
        row |= {"process_wall_s": measured.wall, "process_cpu_s": measured.cpu}
        row |= {"tree_pss_mib": measured.tree_mib, "largest_rss_mib": measured.own_mib}
        self.rows.append(row)

    def of(self, column: str, experiment: str, way: str, configuration: str, cases: int | None = None) -> float:
        """Median of a column over the repeats."""
        found = [
            (max(row["tree_pss_mib"], row["largest_rss_mib"]) if column == "peak_mib" else row[column])
            for row in self.rows
            if (row["experiment"], row["way"], row["configuration"]) == (experiment, way, configuration)
            and cases in (None, row["cases"])
        ]
        return median(found)


def table(title: str, header: tuple[str, ...], rows: list[tuple]) -> None:
    print(f"\n{title}\n\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row) + " |")
    sys.stdout.flush()


def against_forward(bench: Bench, configurations: list[str], cases: list[str], repeats: int) -> None:
    rows = []
    for configuration in configurations:
        for _ in range(repeats):
            bench.ours("forward", configuration, cases, "forward")
            bench.ours("score", configuration, cases, "forward")
        wall, cpu = (
            [bench.of(column, "forward", way, configuration) for way in ("forward", "score")]
            for column in ("work_wall_s", "work_cpu_s")
        )
        rows.append((configuration, len(cases), *wall, wall[1] / wall[0], *cpu, cpu[1] / cpu[0]))
    header = ("configuration", "cases", "forward s", "score s", "ratio (<= 1.15)")
    header += ("forward cpu s", "score cpu s", "ratio of cpu time (<= 1.15)")
    table("Scoring against nnU-Net's bare sliding-window forward pass", header, rows)


def against_predict(bench: Bench, configurations: list[str], cases: list[str], repeats: int) -> None:
    rows, entropies = [], []
    for configuration in configurations:
        for _ in range(repeats):
            for few in (cases, [TINY]):
                experiment = "tiny" if few == [TINY] else "predict"
                _, theirs = bench.predict(configuration, few, experiment)
                _, ours = bench.ours("score", configuration, few, experiment)
            _, forward = bench.ours("forward", configuration, cases, "predict")
        _, theirs = bench.predict(configuration, cases, "entropy")
        _, ours = bench.ours("score", configuration, cases, "entropy")
        entropies += [(configuration, case, theirs["entropy"][case], ours["entropy"][case]) for case in cases]
        forward_cpu = bench.of("work_cpu_s", "predict", "forward", configuration)
        for name, column in (("s", "process_wall_s"), ("cpu s", "process_cpu_s"), ("peak MiB", "peak_mib")):
            theirs, ours = (bench.of(column, "predict", way, configuration) for way in ("predict", "score"))
            small = [bench.of(column, "tiny", way, configuration) for way in ("predict", "score")]
            beyond = (theirs - small[0], ours - small[1])
            rows.append((configuration, len(cases), name, theirs, ours, ours / theirs, *beyond, beyond[1] / beyond[0]))
            if name == "cpu s":
                without = (theirs - forward_cpu, ours - forward_cpu)
                rows.append(
                    (
                        configuration,
                        len(cases),
                        "cpu s without the forward pass",
                        *without,
                        without[1] / without[0],
                        "",
                        "",
                        "",
                    )
                )
    header = ("configuration", "cases", "measure", "predict", "score", "ratio (<= 0.5)")
    header += ("predict beyond a tiny case", "score beyond it", "ratio")
    table("Scoring against nnUNetv2_predict --save_probabilities and reading the files", header, rows)
    table(
        "Mean entropy both ways (voxels of the raw image, float32 / of the preprocessed one)",
        ("configuration", "case", "predict", "score"),
        entropies,
    )


def memory(bench: Bench, configurations: list[str], few: list[str], many: list[str], repeats: int) -> None:
    rows = []
    for configuration in configurations:
        for _ in range(repeats):
            for cases in (few, many):
                bench.ours("score", configuration, cases, "memory")
        peaks = [bench.of("peak_mib", "memory", "score", configuration, len(cases)) for cases in (few, many)]
        rows.append((configuration, *peaks, peaks[1] / peaks[0]))
    header = ("configuration", f"peak MiB, {len(few)} cases", f"peak MiB, {len(many)} cases", "ratio (about 1)")
    table("Peak memory of scoring against the number of cases", header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=8, help="real cases, those with the most voxels first")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-c", dest="configurations", nargs="+", default=list(CONFIGURATIONS))
    parser.add_argument("--large", action="store_true", help="one stretched case with four classes (2d) instead")
    parser.add_argument("--only", choices=("forward", "predict", "memory"), nargs="+")
    parser.add_argument("--csv", type=Path, help="write every measurement to this file")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way, preprocessed, configuration, *cases = args.child
        child(way, preprocessed, configuration, cases)
        return
    only = args.only or (("forward", "predict") if args.large else ("forward", "predict", "memory"))
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        everyone = glioma_cases()
        tiny = write_resized_case(everyone[0], (8, 32, 32), SPACING, scratch / "tiny")
        if args.large:
            args.configurations = ["2d"]
            model = write_model_with_classes(
                glioma_model("2d"), FOUR_CLASSES, scratch / "nnUNetTrainer__nnUNetPlans__2d"
            )
            workspace = Workspace(scratch, "Dataset904_Large", {"2d": model})
            workspace.add_images("large", write_resized_case(everyone[0], LARGE_SHAPE, SPACING, scratch / "large"))
            cases, dataset_json = ["large"], {**glioma_dataset_json(), "labels": FOUR_CLASSES}
        else:
            workspace = Workspace(scratch, GLIOMA, {name: glioma_model(name) for name in args.configurations})
            cases, dataset_json = everyone[: args.cases], glioma_dataset_json()
            workspace.add_glioma_cases(everyone[:24] if "memory" in only else cases)
        workspace.add_images(TINY, tiny)
        before = time.perf_counter()
        workspace.prepare(dataset_json)
        print(f"Planned and preprocessed in {time.perf_counter() - before:.1f} s (once, before all of these).")
        bench = Bench(workspace, scratch)
        if "forward" in only:
            against_forward(bench, args.configurations, cases, args.repeats)
        if "predict" in only:
            against_predict(bench, args.configurations, cases, args.repeats)
        if "memory" in only:
            memory(bench, args.configurations, everyone[:4], everyone[:24], args.repeats)
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(bench.rows[0]))
            writer.writeheader()
            writer.writerows(
                {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
                for row in bench.rows
            )


if __name__ == "__main__":
    main()
