"""The checks of ``gpu_check.py`` that score cases: precision, cost beside the bare forward pass, a large CT."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
from gpu_parts import CONFIGURATION, PLANS, UNLABELLED, Check


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
    """Reading and scoring 16 cases beside nnU-Net's bare sliding window on images in memory; they take turns."""
    import torch

    from nnunet_active.query.pool_scoring import score_cases

    window, store = window_on(check, check.device)
    names = sorted(name for name in store.identifiers() if not name.startswith("copy"))
    images = [torch.from_numpy(store.load_image(name)) for name in names]
    cases = [*names, *copied(store, names)]
    predictor = bare_predictor(window)

    def forward() -> None:
        for image in images * 2:
            predictor.predict_sliding_window_return_logits(image)

    def score() -> None:
        assert not score_cases(window, store, cases).problems

    def score_from_memory() -> None:
        for image in images * 2:
            window.score(image.numpy(), 1.0)

    ways = {"bare forward pass": forward, "scoring": score, "scoring, images in memory": score_from_memory}
    spent = beside(check, ways, 1.05, f"16 scans of {tuple(images[0].shape)}")
    if check.cuda:
        check.row("kernels' share of the bare pass's time", in_kernels(check, forward) / spent["bare forward pass"])
        share = in_kernels(check, score) / spent["scoring"]
        check.row("kernels' share of the scoring time", share, "", "> 0.9", share > 0.9)


def copied(store, names: list[str]) -> list[str]:
    """A second case of each, with files of its own: with few scans, the first reading, which nothing hides, would count too much."""
    for name in names:
        folder = store.image_file(name).parent
        for file in [*folder.glob(f"{name}.*"), *folder.glob(f"{name}_seg.*")]:
            shutil.copy(file, folder / f"copy_{file.name}")
    return [f"copy_{name}" for name in names]


def beside(check: Check, ways: dict, most: float, what: str) -> dict[str, float]:
    """Ways in turns, three times: median seconds, device memory, the ratio of each to the first; the second's has a limit."""
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
    medians = {name: float(np.median(values)) for name, values in spent.items()}
    for name, seconds in medians.items():
        check.row(f"{name}, {what}", seconds, "s" + (f", {memory[name]:.0f} MiB" if memory else ""))
    first, second, *others = medians
    check.at_most("ratio", medians[second] / medians[first], most, "×")
    for name in others:
        check.row(f"ratio, {name}", medians[name] / medians[first], "×")
    return medians


def in_kernels(check: Check, way) -> float:
    """Seconds in which a kernel or a copy runs, by PyTorch's profiler, which delays their start but not their run.

    It reads the raw events: to sort them into a tree takes half a minute.
    """
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        way()
        check.wait()
    events = [event for event in seen.profiler.kineto_results.events() if event.device_type() == DeviceType.CUDA]
    return union([(event.start_ns(), event.start_ns() + event.duration_ns()) for event in events]) / 1e9


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
