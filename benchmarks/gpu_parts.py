"""The checks of ``gpu_check.py``, each in a process of its own: ``python gpu_parts.py CHECK WORK DEVICE TINY``."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SOURCE, TARGET, UNLABELLED = 901, 902, 903
CONFIGURATION, PLANS = "3d_fullres", "nnUNetActivePlans"
OURS = [sys.executable, "-m", "nnunet_active.cli.main"]
STOCK = {
    "plan_and_preprocess": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "train": "nnunetv2.run.run_training:run_training_entry",
    "predict": "nnunetv2.inference.predict_from_raw_data:predict_entry_point_modelfolder",
}


class Check:
    """What a check is told, and the rows that it finds."""

    def __init__(self, name: str, work: Path, device: str, tiny: bool) -> None:
        self.work, self.device, self.tiny = work, device, tiny
        self.cuda = device == "cuda"
        self.file = work / f"{name}.json"
        self.rows: list[dict] = []

    def row(self, what: str, value: float | str, unit: str = "", wanted: str = "", met: bool | None = None) -> None:
        """Note a figure; the file is whole after each."""
        value = float(value) if isinstance(value, int | float | np.number) else value
        self.rows.append({"what": what, "value": value, "unit": unit, "wanted": wanted, "met": met})
        self.file.write_text(json.dumps(self.rows))

    def at_most(self, what: str, value: float, most: float, unit: str = "") -> None:
        self.row(what, value, unit, f"≤ {most:g}", bool(value <= most))

    @property
    def model(self) -> Path:
        return next(Path(os.environ["nnUNet_results"]).glob(f"Dataset{SOURCE}_*/nnUNetTrainer__*"))

    def wait(self) -> None:
        if self.cuda:
            import torch

            torch.cuda.synchronize()


def stock(command: str, *words: str) -> list[str]:
    module, function = STOCK[command].split(":")
    return [sys.executable, "-c", f"from {module} import {function} as main; main()", *map(str, words)]


def call(command: list[str], **variables: str) -> float:
    """Run a command and return its seconds; it has to succeed."""
    begin = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, env={**os.environ, **variables})
    return time.perf_counter() - begin


# --- what the others need --------------------------------------------------------------------------------------------------------


def setup(check: Check) -> None:
    """Phantoms of 160³ voxels, stock plans, a source model after a short stock training, plans for the target."""
    from nnunet_active.demo.phantom import PhantomSizes, write_phantom_pair

    raw = Path(os.environ["nnUNet_raw"])
    pair = write_phantom_pair(raw, PhantomSizes(source=5, source_test=0, target_pool=8, target_test=0))
    if not check.tiny:
        stretch([pair.source_folder, pair.target_folder], (160, 160, 160))
    unlabelled = raw / f"Dataset{UNLABELLED}_PhantomUnlabelled"
    (unlabelled / "labelsTr").mkdir(parents=True)
    (unlabelled / "imagesTr").symlink_to(pair.target_folder / "imagesTr")
    (unlabelled / "dataset.json").write_bytes((pair.target_folder / "dataset.json").read_bytes())
    workers = str(min(8, os.cpu_count() or 1))
    call(stock("plan_and_preprocess", "-d", SOURCE, "-c", CONFIGURATION, "-npfp", workers, "--no_pp"))
    if check.tiny:
        shrink(Path(os.environ["nnUNet_preprocessed"]) / pair.source_name / "nnUNetPlans.json")
    call(
        [
            sys.executable,
            "-c",
            "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import preprocess_entry as main; main()",
            *("-d", str(SOURCE), "-c", CONFIGURATION, "-np", workers),
        ]
    )
    check.row("training the source, step", train_source(check, pair.source_name), "s")
    for dataset in (TARGET, UNLABELLED):
        call([*OURS, "plan", "-d", dataset, "-m", check.model, "-c", CONFIGURATION])


def stretch(folders: list[Path], shape: tuple[int, int, int]) -> None:
    """Resize every image and label in place; 1 mm a voxel."""
    import SimpleITK as sitk
    from scipy.ndimage import zoom

    for file in sorted(file for folder in folders for file in folder.glob("*Tr/*.nii.gz")):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
        order = 0 if file.parent.name == "labelsTr" else 1
        sitk.WriteImage(sitk.GetImageFromArray(zoom(array, factors, order=order)), str(file))


def shrink(plans_file: Path) -> None:
    """Few features, for a CPU."""
    plans = json.loads(plans_file.read_text())
    arch = plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    arch["features_per_stage"] = [min(8, n) for n in arch["features_per_stage"]]
    plans_file.write_text(json.dumps(plans))


def train_source(check: Check, dataset: str) -> float:
    """The stock trainer for one short epoch of AdamW; seconds a step."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(
        dataset, CONFIGURATION, 0, "nnUNetTrainer", "nnUNetPlans", device=torch.device(check.device)
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = 1, 4 if check.tiny else 80
    trainer.num_val_iterations_per_epoch = 1
    os.environ["nnUNet_compile"] = "f"  # compiling takes longer than these steps
    trainer.initialize()
    trainer.optimizer = torch.optim.AdamW(trainer.network.parameters(), 1e-3)
    begin = time.perf_counter()
    trainer.run_training()
    return (time.perf_counter() - begin) / trainer.num_iterations_per_epoch


def prepare(check: Check) -> None:
    """The labelled target is preprocessed."""
    workers = str(min(8, os.cpu_count() or 1))
    call([*OURS, "preprocess", "-d", TARGET, "-c", CONFIGURATION, "-np", workers])


# --- commands beside commands ------------------------------------------------------------------------------------------------------


def select(check: Check) -> None:
    """``nnunet_active select`` on raw scans: preprocessing, scoring, choice."""
    words = ["-d", UNLABELLED, "-c", CONFIGURATION, "-n", 1, "--strategy", "mmacts", "--dry-run", "-np", 3]
    check.row("select, 8 raw scans of 160³", call([*OURS, "select", *words, "-device", check.device]), "s")


def predict(check: Check) -> None:
    """Stock prediction with probabilities of the same scans, with nnU-Net's own numbers of workers, without mirroring."""
    images = Path(os.environ["nnUNet_raw"]) / f"Dataset{UNLABELLED}_PhantomUnlabelled" / "imagesTr"
    words = ["-i", images, "-o", check.work / "predicted", "-m", check.model, "-f", 0, "--save_probabilities"]
    words += ["--disable_tta", "--disable_progress_bar", "-device", check.device]
    spent = call(stock("predict", *words))
    ours = json.loads((check.work / "select.json").read_text())[0]["value"]
    check.row("nnUNetv2_predict --save_probabilities, the same scans", spent, "s")
    check.at_most("select beside it", ours / spent, 1.0, "×")


# --- scoring -------------------------------------------------------------------------------------------------------------------------


def window_on(check: Check, device: str):
    """Our window with the source's weights, and the preprocessed cases."""
    import torch

    from nnunet_active.data.cases import CaseStore
    from nnunet_active.models.source_model import carry_over, read_source_model
    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network

    folder = next(Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{UNLABELLED}_*"))
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    dataset_json = json.loads((folder / "dataset.json").read_text())
    network = build_network(plans, CONFIGURATION, dataset_json)
    carry_over(network, read_source_model(check.model), plans, dataset_json)
    window = SlidingWindow(network, plans, CONFIGURATION, dataset_json, torch.device(device))
    return window, CaseStore(folder, plans, CONFIGURATION)


def bare_predictor(window):
    """nnU-Net's predictor on the same network."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(window.plans)
    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=window.device.type == "cuda",
        device=window.device,
        allow_tqdm=False,
    )
    configured = manager.get_configuration(window.configuration)
    predictor.manual_initialization(window.network, manager, configured, None, window.dataset_json, "", None)
    predictor.network = window.network
    return predictor


def precision(check: Check) -> None:
    """The scores in mixed precision on the device beside those in single precision on the CPU."""
    from nnunet_active.query.pool_scoring import score_cases

    both = {}
    for device in ("cpu", check.device):
        window, store = window_on(check, device)
        cases = sorted(store.identifiers())[:2]
        both[device] = score_cases(window, store, cases)
        assert not both[device].problems, both[device].problems
    ours, exact = both[check.device], both["cpu"]
    check.row("predicted foreground, CPU", float(exact.table["foreground_voxels"].mean()), "voxels")
    for name in ("mean_entropy", "confidence", "class_balanced_entropy", "foreground_voxels"):
        apart = (ours.table[name] / exact.table[name] - 1).abs().max()
        check.at_most(f"{name}: farthest from the CPU's", float(apart), 0.02, "(relative)")
    a, b = ours.arrays["embedding"], exact.arrays["embedding"]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    check.at_most("embedding: cosine distance to the CPU's", float(1 - cosine.min()), 1e-3)


def scoring(check: Check) -> None:
    """Reading and scoring cases beside nnU-Net's bare sliding window on images in memory; they take turns."""
    import torch

    from nnunet_active.query.pool_scoring import score_cases

    window, store = window_on(check, check.device)
    cases = sorted(store.identifiers())
    predictor = bare_predictor(window)
    images = [torch.from_numpy(store.load_image(case)) for case in cases]

    def forward() -> None:
        for image in images:
            predictor.predict_sliding_window_return_logits(image)

    def score() -> None:
        assert not score_cases(window, store, cases).problems

    beside(check, {"bare forward pass": forward, "scoring": score}, 1.05, f"8 scans of {tuple(images[0].shape)}")
    check.row("kernels' share of the scoring time", busy_share(check, score), "", "> 0.9 of the device")


def beside(check: Check, ways: dict, most: float, what: str) -> None:
    """Two ways in turns, three times: seconds, device memory, their ratio."""
    import torch

    spent = {name: [] for name in ways}
    memory = {}
    for turn in range(4):  # the first warms up
        for name, way in ways.items():
            check.wait()
            if check.cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            begin = time.perf_counter()
            way()
            check.wait()
            if turn:
                spent[name].append(time.perf_counter() - begin)
            if check.cuda:
                memory[name] = torch.cuda.max_memory_allocated() / 2**20
    (first, second) = (float(np.median(values)) for values in spent.values())
    for name, seconds in zip(ways, (first, second), strict=True):
        check.row(f"{name}, {what}", seconds, "s" + (f", {memory[name]:.0f} MiB" if memory else ""))
    check.at_most("ratio", second / first, most, "×")


def busy_share(check: Check, way) -> float | str:
    """Time in kernels over wall time, by PyTorch's profiler."""
    if not check.cuda:
        return "not on a CPU"
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        begin = time.perf_counter()
        way()
        check.wait()
        wall = time.perf_counter() - begin
    kernels = [
        (event.time_range.start, event.time_range.end) for event in seen.events() if event.device_type.name == "CUDA"
    ]
    return union(kernels) / 1e6 / wall


def union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels may overlap."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def ct(check: Check) -> None:
    """A CT of 512 × 512 × 600 voxels with 118 classes, whole, on 24 GB of host memory; beside the bare forward pass."""
    import torch

    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network

    base, _ = window_on(check, check.device)
    classes, shape = (12, (24, 64, 64)) if check.tiny else (118, (600, 512, 512))
    labels = {"background": 0, **{f"organ_{i}": i for i in range(1, classes)}}
    dataset_json = {**base.dataset_json, "channel_names": {"0": "CT"}, "labels": labels}
    torch.manual_seed(0)
    network = build_network(base.plans, CONFIGURATION, dataset_json)
    with torch.no_grad():  # about half of the voxels shall be background, as in a body
        network.decoder.seg_layers[-1].bias[0] += 2.0
    window = SlidingWindow(network, base.plans, CONFIGURATION, dataset_json, torch.device(check.device))
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    begin = time.perf_counter()
    window.score(image[:, : shape[0] // 4], 1.0)  # warms up
    check.wait()
    check.row("a quarter, warming up", time.perf_counter() - begin, "s")
    seconds, memory = {}, {}
    predictor = bare_predictor(window)
    ways = {
        "scoring": lambda: window.score(image, 1.0),
        "bare forward pass": lambda: predictor.predict_sliding_window_return_logits(torch.from_numpy(image)),
    }
    for name, way in ways.items():
        if check.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        found = way()
        check.wait()
        seconds[name] = time.perf_counter() - begin
        if check.cuda:
            memory[name] = torch.cuda.max_memory_allocated() / 2**20
            check.row(f"device memory at its highest, {name}", memory[name], "MiB")
        check.row(f"{name}, {classes} classes, {shape}", seconds[name], "s")
        if name == "scoring":
            share = found.scalars["foreground_voxels"] / found.scalars["voxels"]
            check.row("share of foreground in it", share)
            host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            check.at_most("host memory at its highest, scoring", host, 24, "GiB")
        del found
    check.at_most("scoring beside the bare forward pass", seconds["scoring"] / seconds["bare forward pass"], 1.05, "×")
    if memory:
        check.at_most("device memory beside it", memory["scoring"] / memory["bare forward pass"], 0.5, "×")


# --- training --------------------------------------------------------------------------------------------------------------------


def campaign(check: Check, fold: str, epochs: int) -> Path:
    """A campaign with a query at each epoch; the folder that its training writes."""
    iterations = 4 if check.tiny else 100
    words = ["-d", TARGET, "-c", CONFIGURATION, "-f", fold, "--strategy", "mmacts", "--budget", 2, "--query-size", 1]
    words += ["--stride", 1, "--epochs", epochs, "--iterations", iterations, "--val-iterations", 2, "--recipe", "plain"]
    call([*OURS, "init", *words, "--oracle", "retrospective"])
    results = Path(os.environ["nnUNet_results"]) / f"Dataset{TARGET}_PhantomTarget"
    return results / f"nnUNetTrainerMmActS__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"


def trained_by_stock(check: Check, fold: str, *flags: str) -> list[str]:
    words = [TARGET, CONFIGURATION, fold, "-tr", "nnUNetTrainerMmActS", "-p", PLANS, "-device", check.device]
    return stock("train", *words, *flags)


def trainers_folder() -> str:
    from nnunet_active.nnunet_discovery import discovery_folder

    return str(discovery_folder())


def lines_of(folder: Path) -> str:
    return "\n".join(file.read_text() for file in sorted(folder.glob("training_log_*.txt")))


def training(check: Check) -> None:
    """``nnUNetv2_train`` with two queries, killed in its third epoch: what an epoch and a query cost."""
    folder = campaign(check, "0", 3)
    process = subprocess.Popen(
        [str(word) for word in trained_by_stock(check, "0")],
        env={**os.environ, "nnUNet_extTrainer": trainers_folder()},
        start_new_session=True,
    )
    try:
        while process.poll() is None and not re.search(r"Epoch 2\b", lines_of(folder)):
            time.sleep(0.5)
        assert process.poll() is None, "it ended before its third epoch"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    log = lines_of(folder)
    epochs = [float(found) for found in re.findall(r"Epoch time: ([\d.]+) s", log)]
    check.row("first epoch (with torch.compile)", epochs[0], "s")
    iterations = 4 if check.tiny else 100
    step = epochs[1] / iterations
    check.row("later epoch, a step", step, "s")
    events = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    queries = [event["seconds"] for event in events if event.get("event") == "query"]
    for number, seconds in enumerate(queries, 1):
        check.row(f"query {number}, {9 - number} cases", seconds, "s")
    a_case = queries[-1] / (9 - len(queries))
    check.at_most("80 cases a query, stride 40 × 250 steps: its share", 80 * a_case / (40 * 250 * step), 0.02)


def resume(check: Check) -> None:
    """``--c`` goes on to the end, with the same two queries."""
    folder = next(Path(os.environ["nnUNet_results"]).glob(f"Dataset{TARGET}_*/nnUNetTrainerMmActS__*/fold_0"))
    before = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    seconds = call(trained_by_stock(check, "0", "--c"), nnUNet_extTrainer=trainers_folder())
    events = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    asked = [[tuple(e["requested"]) for e in part if e.get("event") == "query"] for part in (before, events)]
    check.row("--c to the end, with validation", seconds, "s")
    check.row("checkpoint_final.pth", "there", "", "there", (folder / "checkpoint_final.pth").is_file())
    check.row("cases asked for", str(len(asked[1])), "", "2, the same", asked[0] == asked[1] and len(asked[1]) == 2)


def ddp(check: Check) -> None:
    """nnU-Net's own DDP training with one GPU."""
    if not check.cuda:
        check.row("DDP", "needs CUDA here; with gloo it is in the tests")
        return
    folder = campaign(check, "1", 2)
    code = (
        "import os, torch.multiprocessing as mp\n"
        "from nnunetv2.run.run_training import run_ddp\n"
        "if __name__ == '__main__':\n"
        "    os.environ.update(MASTER_ADDR='localhost', MASTER_PORT='29511')\n"
        f"    mp.spawn(run_ddp, ('{TARGET}', '{CONFIGURATION}', 1, 'nnUNetTrainerMmActS', '{PLANS}', False, False, False,"
        " None, False, False, 1), nprocs=1)\n"
    )
    script = check.work / "ddp.py"
    script.write_text(code)
    seconds = call([sys.executable, str(script)], nnUNet_extTrainer=trainers_folder(), nnUNet_compile="f")
    check.row("DDP, nccl, one rank, two epochs with a query each", seconds, "s")
    check.row("checkpoint_final.pth", "there", "", "there", (folder / "checkpoint_final.pth").is_file())


if __name__ == "__main__":
    name, folder, device, tiny = sys.argv[1:]
    globals()[name](Check(name, Path(folder), device, tiny == "1"))
