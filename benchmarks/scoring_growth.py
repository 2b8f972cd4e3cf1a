"""How time and memory of scoring grow with the volume and the number of classes, beside two other ways.

    python benchmarks/scoring_growth.py --csv benchmarks/results/scoring_growth.csv
    python benchmarks/scoring_growth.py --ct --csv benchmarks/results/scoring_ct.csv      # 512 x 512 x 600, 118 classes

Random volumes of three sizes and 2, 16 and 118 classes, a small 3-D U-Net with random weights (patch 48³), one thread, CPU, mirroring
off. The machine may be shared: processor time is the figure, and every ratio is within one run.

* **forward**: ``nnUNetPredictor.predict_sliding_window_return_logits`` on an array in memory.
* **score**: :meth:`SlidingWindow.score` on the same array, embedding included; in turns with *forward* in one process.
* **predict**: ``nnUNetv2_predict_from_modelfolder --save_probabilities --disable_tta -npp 1 -nps 1`` on the raw image, and in the same
  process the mean entropy from the ``.npz`` file with NumPy. What the same command takes for a volume of 48³ voxels and two classes
  is taken off in the table, in time and memory: the start of Python and of nnU-Net's workers.

Peak: the growth of the resident memory during a way, reset before it (``/proc/self/clear_refs``, Linux) in the process of *forward* and
*score*; of the processes of *predict* together, see ``measuring.Measured``. :func:`synthetic_window` and :func:`synthetic_volume` are
for whoever wants to score such a volume elsewhere.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import measuring
import numpy as np
from measuring import run_measured

if TYPE_CHECKING:
    from nnunet_active.nnunet.inference import SlidingWindow

SIZES = {"tiny": (48, 48, 48), "small": (48, 80, 80), "medium": (64, 112, 112), "large": (96, 160, 160)}
CLASSES = (118, 2, 16)
CT_SHAPE, CT_PATCH = (600, 512, 512), 128
CONFIGURATION = "3d_fullres"
PREDICT = """
import json, pathlib, sys
import numpy as np
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
output = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
predict_entry_point_modelfolder()
(file,) = output.glob("*.npz")
p = np.load(file)["probabilities"]
entropy = float(-(p * np.log(np.clip(p, 1e-10, 1))).sum(0).mean())
print(json.dumps(entropy))
"""


def synthetic_plans(patch: int = 48, features: tuple[int, ...] = (8, 16, 32)) -> dict:
    """Plans of a small 3-D U-Net for one channel at 1 mm, without normalization."""
    stages, resampling = len(features), {"order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": "Dataset905_Synthetic",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [patch] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [patch] * 3,
                "median_image_size_in_voxels": [float(patch)] * 3,
                "spacing": [1.0, 1.0, 1.0],
                "normalization_schemes": ["NoNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
                "batch_dice": False,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": stages,
                        "features_per_stage": list(features),
                        "conv_op": "torch.nn.modules.conv.Conv3d",
                        "kernel_sizes": [[3, 3, 3]] * stages,
                        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
                        "n_conv_per_stage": [1] * stages,
                        "n_conv_per_stage_decoder": [1] * (stages - 1),
                        "conv_bias": True,
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                        "dropout_op": None,
                        "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            }
        },
    }


def synthetic_description(classes: int) -> dict:
    """A ``dataset.json`` of one CT channel and so many classes, the background included."""
    labels = {"background": 0, **{f"organ_{number}": number for number in range(1, classes)}}
    return {"channel_names": {"0": "nonorm"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}


def synthetic_window(classes: int, device: str = "cpu", **plans) -> SlidingWindow:
    """A window on a network with random weights, made from plans alone; ``plans``: see :func:`synthetic_plans`."""
    import torch

    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.nnunet.networks import build_network

    planned, description = synthetic_plans(**plans), synthetic_description(classes)
    torch.manual_seed(0)
    network = build_network(planned, CONFIGURATION, description).eval()
    return SlidingWindow(network.to(device), planned, CONFIGURATION, description, torch.device(device))


def synthetic_volume(shape: tuple[int, int, int]) -> np.ndarray:
    """Noise (1, Z, Y, X) float32; ``synthetic_window(118).score(synthetic_volume(shape), voxel_mm3=1.0)`` scores it."""
    return np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)


def resident_peak(reset: bool = False) -> float:
    """Highest resident memory of this process in MiB since the last reset; after a reset, what is resident now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def pair(size: str, classes: int, turns: int) -> None:
    """Forward and score in turns; prints one line of JSON."""
    import torch

    torch.set_num_threads(1)
    window, image = synthetic_window(classes), synthetic_volume(SIZES[size])
    predictor = window._predictor  # the stock nnUNetPredictor, use_mirroring=False
    window.score(image[:, :48, :48, :48], 1.0)
    ways = {
        "forward": lambda: predictor.predict_sliding_window_return_logits(torch.from_numpy(image)),
        "score": lambda: window.score(image, 1.0).scalars["mean_entropy"],
    }
    found = {name: {"cpu": [], "wall": [], "peak": 0.0} for name in ways}
    for turn in range(turns):
        for name in reversed(ways) if turn % 2 else ways:
            before = resident_peak(reset=True)
            wall, cpu = time.perf_counter(), time.process_time()
            result = ways[name]()
            found[name]["cpu"].append(time.process_time() - cpu)
            found[name]["wall"].append(time.perf_counter() - wall)
            found[name]["peak"] = max(found[name]["peak"], resident_peak() - before)
            if name == "score":
                found[name]["mean_entropy"] = result
            del result
    print(json.dumps(found))


def write_model(classes: int, folder: Path) -> None:
    """The network of :func:`synthetic_window` as a stock model folder."""
    from nnunet_active.models.model_writing import save_source_model
    from nnunet_active.models.source_model import SourceModel

    window = synthetic_window(classes)
    weights = window.network.state_dict()
    description, trainer = window.dataset_json, "nnUNetTrainer"
    save_source_model(
        SourceModel(window.plans, description, None, CONFIGURATION, "0", weights, (0, 1, 2), trainer, "synthetic"),
        folder,
    )


def predict(size: str, classes: int, model: Path, scratch: Path) -> dict:
    """The published way."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        images, output = Path(folder) / "images", Path(folder) / "output"
        images.mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(synthetic_volume(SIZES[size])[0]), str(images / "case_0000.nii.gz"))
        flags = ["-i", str(images), "-o", str(output), "-m", str(model), "-f", "0", "-device", "cpu", "--disable_tta"]
        flags += ["--save_probabilities", "-npp", "1", "-nps", "1", "--disable_progress_bar"]
        measured = run_measured([sys.executable, "-c", PREDICT, *flags])
    entropy = float(measured.output.splitlines()[-1])
    return {"cpu": measured.cpu, "wall": measured.wall, "peak": measured.peak_mib, "mean_entropy": entropy}


def ct(planes: int, device: str) -> dict:
    """A CT of 512 x 512 voxels and so many slices, 118 classes: seconds, and peak memory above that of the image."""
    import torch

    torch.set_num_threads(1)
    window = synthetic_window(118, device, patch=CT_PATCH, features=(4, 8))
    image = synthetic_volume((planes, *CT_SHAPE[1:]))
    window.score(synthetic_volume((CT_PATCH,) * 3), 1.0)
    before = resident_peak(reset=True)
    wall, cpu = time.perf_counter(), time.process_time()
    scores = window.score(image, 1.0)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = resident_peak()
    logits = 118 * image.size * 2 / 2**20
    found |= {"peak_mib": peak, "above_the_start_mib": peak - before, "half_precision_logits_mib": logits}
    if device == "cuda":
        found["device_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return {"planes": planes, "device": device, **found, "mean_entropy": scores.scalars["mean_entropy"]}


def write_csv(file: Path | None, rows: list[dict]) -> None:
    """After every measurement, so that a run that is stopped keeps what it has."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def measure(size: str, classes: int, model: Path, scratch: Path) -> dict[str, dict]:
    """All three ways on one volume."""
    turns = {"small": 3, "medium": 2}.get(size, 1 if classes > 50 else 2)
    measured = run_measured([sys.executable, __file__, "--child", size, str(classes), str(turns)])
    ways = json.loads(measured.output.splitlines()[-1])
    for one in ways.values():
        one |= {name: float(np.median(one[name])) for name in ("cpu", "wall")}
    return {**ways, "predict": predict(size, classes, model, scratch)}


def growth(file: Path | None, sizes: list[str], all_classes: list[int]) -> None:
    """All sizes and classes, three ways each; prints the table of ratios."""
    measuring.SAMPLE_SECONDS = 0.25  # looking more often would take a good part of one core
    rows: list[dict] = []
    run = time.strftime("%Y-%m-%d %H:%M")  # ratios hold within one run

    def note(size: str, classes: int, way: str, one: dict) -> None:
        figures = {"cpu_s": one["cpu"], "wall_s": one["wall"], "peak_mib": one["peak"]}
        voxels, entropy = int(np.prod(SIZES[size])), one.get("mean_entropy", "")
        rows.append(
            {
                "run": run,
                "size": size,
                "voxels": voxels,
                "classes": classes,
                "way": way,
                **figures,
                "mean_entropy": entropy,
            }
        )
        write_csv(file, rows)

    print("| volume | classes | time / forward | time / predict | peak / forward | peak / predict |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "tiny"
        write_model(2, model)
        start = predict("tiny", 2, model, Path(temporary))
        note("tiny", 2, "predict", start)
        for classes in all_classes:
            model = Path(temporary) / f"model_{classes}"
            write_model(classes, model)
            for size in sizes:
                ways = measure(size, classes, model, Path(temporary))
                for way, one in ways.items():
                    note(size, classes, way, one)
                ratios = [ratio(ways, way, name, start) for name in ("cpu", "peak") for way in ("forward", "predict")]
                print(f"| {size} | {classes} | " + " | ".join(ratios) + " |", flush=True)


def ratio(ways: dict[str, dict], way: str, name: str, start: dict) -> str:
    """Score beside another way; empty where that takes hardly more than its start, so that nothing could be told."""
    other = ways[way][name] - (start[name] if way == "predict" else 0)
    return f"{ways['score'][name] / other:.2f}" if way == "forward" or other > start[name] / 5 else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["large", "medium", "small"])
    parser.add_argument("--classes", nargs="+", type=int, default=list(CLASSES))
    parser.add_argument("--ct", action="store_true", help="only score a CT of 512 x 512 x 600 voxels with 118 classes")
    parser.add_argument("--planes", type=int, default=CT_SHAPE[0], help="slices of that CT")
    parser.add_argument("-device", default="cpu", help="of that CT")
    parser.add_argument("--csv", type=Path, help="write every measurement to this file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        pair(args.child[0], int(args.child[1]), int(args.child[2]))
    elif args.ct:
        row = ct(args.planes, args.device)
        print(json.dumps(row))
        write_csv(args.csv, [row])
    else:
        growth(args.csv, args.sizes, args.classes)


if __name__ == "__main__":
    main()
