"""What it costs to score a pool: against the bare forward pass, and against ``nnUNetv2_predict --save_probabilities``.

    python benchmarks/scoring.py --csv benchmarks/results/scoring.csv
    python benchmarks/scoring.py --large --repeats 2 --csv benchmarks/results/scoring_large.csv

Real glioma cases (203 -> 204, three MR channels) and their source models, one thread, CPU, mirroring off; with ``--large``
two stretched cases of 160 x 256 x 256 voxels and four classes, ``2d``. Repeated in fresh processes, the ways that are compared
take turns, and medians are reported. The machine may be shared: then the processor time (of all processes of a way
together) is the steadier figure.

* **forward**: ``nnUNetPredictor.predict_sliding_window_return_logits`` on arrays that are in memory already.
* **score**: ``nnunet_active.query.pool_scoring.score_cases``: reading the preprocessed cases, all statistics and the embedding
  included. Forward and score take turns case by case in one process.
* **predict**: ``nnUNetv2_predict_from_modelfolder --save_probabilities --disable_tta -npp 1 -nps 1`` on the raw cases, then a
  process that reads the ``.npz`` files and computes the mean entropy with NumPy. It is compared with the whole process that
  scores, start-up included. With ``--stock_defaults`` the flags are nnU-Net's own: mirroring, three workers each.
  "Beyond a tiny case" subtracts the same command on an image of 8 x 32 x 32 voxels, that is the start-up of Python, torch and
  the workers. "Without the forward pass" subtracts the processor time of *forward*, which both ways have to spend.

Peak memory: see ``measuring.Measured``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from nnunet_active.data.cases import CaseStore
    from nnunet_active.nnunet.inference import SlidingWindow

CONFIGURATIONS = ("2d", "3d_fullres")
TINY = "tiny"
LARGE_SHAPE = (160, 256, 256)
SPACING = (2.0, 2.0, 5.0)  # that of the source model, so that neither way has to resample
FOUR_CLASSES = {"background": 0, "tumour": 1, "second": 2, "third": 3}
PREDICT = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as main; main()"
READ_AND_COMPUTE = """
import sys, pathlib, numpy as np
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.npz")):
    p = np.load(file)["probabilities"]
    print(file.stem, -(p * np.log(np.clip(p, 1e-10, 1))).sum(0).mean())
"""


def child(way: str, preprocessed: str, configuration: str, cases: list[str]) -> None:
    """What a measured process does."""
    import torch

    from nnunet_active.data.cases import CaseStore
    from nnunet_active.models.source_model import carry_over, read_source_model, source_folder
    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network
    from nnunet_active.query.pool_scoring import score_cases

    torch.set_num_threads(1)
    folder = Path(preprocessed)
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    dataset_json = json.loads((folder / "dataset.json").read_text())
    source = read_source_model(source_folder(folder, PLANS, configuration))
    network = build_network(plans, configuration, dataset_json)
    carry_over(network, source, plans, dataset_json)
    window = SlidingWindow(network, plans, configuration, dataset_json, torch.device("cpu"))
    store = CaseStore(folder, plans, configuration)
    if way == "pair":
        print(json.dumps(pair(window, store, cases)))
        return
    scored = score_cases(window, store, cases)
    assert not scored.problems, scored.problems
    print(json.dumps(scored.table["mean_entropy"].to_dict()))


def pair(window: SlidingWindow, store: CaseStore, cases: list[str]) -> dict[str, list[float]]:
    """Wall and processor seconds of both ways on the same cases, in turns; the first case is warmed up for both."""
    import torch

    from nnunet_active.query.pool_scoring import score_cases

    predictor = window._predictor  # the stock nnUNetPredictor, use_mirroring=False
    spent = {"forward": [0.0, 0.0], "score": [0.0, 0.0]}
    score_cases(window, store, cases[:1])
    for number, case in enumerate(cases):
        image = torch.from_numpy(store.load_image(case))
        for way in ("forward", "score") if number % 2 else ("score", "forward"):
            wall, cpu = time.perf_counter(), time.process_time()
            if way == "forward":
                predictor.predict_sliding_window_return_logits(image)
            else:
                score_cases(window, store, [case])
            spent[way][0] += time.perf_counter() - wall
            spent[way][1] += time.process_time() - cpu
    return spent


class Bench:
    """Runs the ways on a workspace and keeps every measurement."""

    def __init__(self, workspace: Workspace, scratch: Path, file: Path | None, defaults: bool) -> None:
        self.workspace, self.scratch, self.file, self.defaults = workspace, scratch, file, defaults
        self.rows: list[dict] = []

    def _child(self, way: str, configuration: str, cases: list[str]) -> Measured:
        arguments = ["--child", way, str(self.workspace.preprocessed), configuration, *cases]
        return run_measured([sys.executable, __file__, *arguments])

    def pair(self, configuration: str, cases: list[str]) -> None:
        measured = self._child("pair", configuration, cases)
        for way, (wall, cpu) in json.loads(measured.output.splitlines()[-1]).items():
            self._note("forward", way, configuration, cases, replace(measured, wall=wall, cpu=cpu))

    def score(self, configuration: str, cases: list[str], experiment: str) -> dict[str, float]:
        measured = self._child("score", configuration, cases)
        self._note(experiment, "score", configuration, cases, measured)
        return json.loads(measured.output.splitlines()[-1])

    def predict(self, configuration: str, cases: list[str], experiment: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            images = self.workspace.links_to(cases, Path(folder) / "images")
            output = Path(folder) / "output"
            flags = ["-i", str(images), "-o", str(output), "-m", str(self.workspace.models[configuration]), "-f", "0"]
            flags += ["-device", "cpu", "--save_probabilities", "--disable_progress_bar"]
            if not self.defaults:
                flags += ["-npp", "1", "-nps", "1", "--disable_tta"]
            first = run_measured([sys.executable, "-c", PREDICT, *flags])
            second = run_measured([sys.executable, "-c", READ_AND_COMPUTE, str(output)])
        entropy = {line.split()[0]: float(line.split()[1]) for line in second.output.splitlines()}
        assert len(entropy) == len(cases), (entropy, first.output)
        peaks = [max(getattr(first, name), getattr(second, name)) for name in ("peak_mib", "pss_mib")]
        total = Measured(first.wall + second.wall, first.cpu + second.cpu, *peaks, second.output)
        self._note(experiment, "predict", configuration, cases, total)
        return entropy

    def _note(self, experiment: str, way: str, configuration: str, cases: list[str], measured: Measured) -> None:
        row = {"experiment": experiment, "way": way, "configuration": configuration, "cases": len(cases)}
        self.rows.append(row | {name: value for name, value in asdict(measured).items() if name != "output"})
        self._write()

    def _write(self) -> None:
        """After every measurement, so that a run that is stopped keeps what it has."""
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            for row in self.rows:
                writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})

    def of(self, column: str, experiment: str, way: str, configuration: str, cases: int | None = None) -> float:
        """Median of a column over the repeats."""
        found = [
            row[column]
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
            bench.pair(configuration, cases)
        row: list = [configuration, len(cases)]
        for column in ("wall", "cpu"):
            forward, score = (bench.of(column, "forward", way, configuration) for way in ("forward", "score"))
            row += [forward, score, score / forward]
        rows.append(tuple(row))
    header = ("configuration", "cases", "forward s", "score s", "ratio (<= 1.15)")
    header += ("forward cpu s", "score cpu s", "ratio of cpu time (<= 1.15)")
    table("Scoring against nnU-Net's bare sliding-window forward pass", header, rows)


def against_predict(bench: Bench, configurations: list[str], cases: list[str], repeats: int) -> None:
    rows, entropies = [], []
    for configuration in configurations:
        for _ in range(repeats):
            theirs = bench.predict(configuration, cases, "predict")
            ours = bench.score(configuration, cases, "predict")
            bench.predict(configuration, [TINY], "tiny")
            bench.score(configuration, [TINY], "tiny")
        bench.pair(configuration, cases)
        forward = bench.of("cpu", "forward", "forward", configuration, len(cases))
        entropies += [(configuration, case, theirs[case], ours[case]) for case in cases]
        for name, column in (
            ("s", "wall"),
            ("cpu s", "cpu"),
            ("peak MiB", "peak_mib"),
            ("peak MiB with libraries", "pss_mib"),
        ):
            predict, score = (bench.of(column, "predict", way, configuration) for way in ("predict", "score"))
            small = [bench.of(column, "tiny", way, configuration) for way in ("predict", "score")]
            beyond = (predict - small[0], score - small[1])
            rows.append((configuration, len(cases), name, predict, score, score / predict, *beyond))
            if name == "cpu s" and not bench.defaults:
                rest = (predict - forward, score - forward)
                rows.append(
                    (configuration, len(cases), "cpu s without the forward pass", *rest, rest[1] / rest[0], "", "")
                )
    header = ("configuration", "cases", "measure", "predict", "score", "ratio (<= 0.5)")
    header += ("predict beyond a tiny case", "score beyond it")
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
                bench.score(configuration, cases, "memory")
        peaks = [bench.of("peak_mib", "memory", "score", configuration, len(cases)) for cases in (few, many)]
        rows.append((configuration, *peaks, peaks[1] / peaks[0]))
    header = ("configuration", f"peak MiB, {len(few)} cases", f"peak MiB, {len(many)} cases", "ratio (about 1)")
    table("Peak memory of scoring against the number of cases", header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=8, help="real cases, those with the most voxels first")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-c", dest="configurations", nargs="+", default=list(CONFIGURATIONS))
    parser.add_argument("--large", action="store_true", help="two stretched cases with four classes (2d) instead")
    parser.add_argument("--stock_defaults", action="store_true", help="predict with mirroring and three workers each")
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
            cases, dataset_json = everyone[:2], {**glioma_dataset_json(), "labels": FOUR_CLASSES}
            for case in cases:
                workspace.add_images(case, write_resized_case(case, LARGE_SHAPE, SPACING, scratch / "large"))
        else:
            workspace = Workspace(scratch, GLIOMA, {name: glioma_model(name) for name in args.configurations})
            cases, dataset_json = everyone[: args.cases], glioma_dataset_json()
            workspace.add_glioma_cases(everyone[:24] if "memory" in only else cases)
        workspace.add_images(TINY, tiny)
        before = time.perf_counter()
        workspace.prepare(dataset_json)
        print(f"Planned and preprocessed in {time.perf_counter() - before:.1f} s (once, before all of these).")
        bench = Bench(workspace, scratch, args.csv, args.stock_defaults)
        if "forward" in only:
            against_forward(bench, args.configurations, cases, args.repeats)
        if "predict" in only:
            against_predict(bench, args.configurations, cases, args.repeats)
        if "memory" in only:
            memory(bench, args.configurations, everyone[:4], everyone[:24], args.repeats)


if __name__ == "__main__":
    main()
