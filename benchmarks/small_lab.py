"""A laboratory for many cheap trainings: cached scans at half resolution, small 2-D networks, seconds for a fine-tuning.

What a training with nnU-Net's trainers says in minutes, many trainings here say in one: whether an effect is there at all. Networks
are nnU-Net's ``PlainConvUNet``, augmentation and loss are like nnU-Net's, samples are whole slices. A claim still needs the real
trainers. The pairs (source -> target, data as in the README of the test data):

* ``diseased``: healthy -> diseased hearts (201, by patient); ``hearts``: 201 -> 202; ``cine``: 202 -> 201;
* ``glioma``: 203 -> 204; ``glioma_back``: 204 -> 203; ``hippocampus``: 003 -> 004.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from scipy.ndimage import zoom
from torch import Tensor, nn
from workspace import ENDING, test_data

from nnunet_active.util.atomic import atomic_file

IGNORED, BATCH, WIDTHS = 255, 12, (8, 16, 32, 64)
PAIRS = {
    "diseased": ("Dataset201_CardiacCine", "Dataset201_CardiacCine"),
    "hearts": ("Dataset201_CardiacCine", "Dataset202_CardiacLGE"),
    "cine": ("Dataset202_CardiacLGE", "Dataset201_CardiacCine"),
    "glioma": ("Dataset203_GliomaSource", "Dataset204_GliomaTarget"),
    "glioma_back": ("Dataset204_GliomaTarget", "Dataset203_GliomaSource"),
    "hippocampus": ("Dataset003_HippocampusSource", "Dataset004_Hippocampus"),
}
SHRINK = {"hippocampus": 1.0}
"""In-plane size beside the stored one; 0.5 where nothing is said."""


@dataclass
class Scan:
    """One scan: image (C, Z, H, W) float32 with mean 0 and deviation 1, label (Z, H, W) int64."""

    name: str
    patient: str
    image: Tensor
    label: Tensor


def patient_of(case: str) -> str:
    """Two frames of a heart are one patient."""
    return case.split("_frame")[0]


def read_scans(raw: Path, dataset: str, shrink: float, cache: Path) -> list[Scan]:
    """All labelled cases of a data set, cached in one file; sides of the slices are padded to multiples of 16."""
    file = cache / f"{dataset}_{shrink:g}.npz"
    if not file.is_file():
        arrays: dict[str, np.ndarray] = {}
        for label in sorted((raw / dataset / "labelsTr").glob(f"*{ENDING}")):
            case = label.name.removesuffix(ENDING)
            images = sorted((raw / dataset / "imagesTr").glob(f"{case}_????{ENDING}"))
            channels = [sitk.GetArrayFromImage(sitk.ReadImage(str(image))).astype(np.float32) for image in images]
            channels = [(one - one.mean()) / max(one.std(), 1e-6) for one in channels]
            by = (1, shrink, shrink)
            arrays[f"{case}/x"] = np.stack([zoom(one, by, order=1) for one in channels]).astype(np.float16)
            arrays[f"{case}/y"] = zoom(sitk.GetArrayFromImage(sitk.ReadImage(str(label))), by, order=0).astype(np.uint8)
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as unfinished, unfinished.open("wb") as opened:
            np.savez(opened, **arrays)
    scans = []
    with np.load(file) as stored:
        for case in sorted({name.rpartition("/")[0] for name in stored.files}):
            image, label = torch.from_numpy(stored[f"{case}/x"]).float(), torch.from_numpy(stored[f"{case}/y"]).long()
            pad = (0, -label.shape[2] % 16, 0, -label.shape[1] % 16)
            scans.append(Scan(case, patient_of(case), F.pad(image, pad, value=float(image.min())), F.pad(label, pad)))
    return scans


def pair_of(name: str, raw: Path, cache: Path) -> tuple[list[Scan], list[Scan]]:
    """Source scans and target scans of a pair."""
    source, target = (read_scans(raw, dataset, SHRINK.get(name, 0.5), cache) for dataset in PAIRS[name])
    if name == "diseased":
        parts = json.loads((test_data() / "splits" / "healthy_to_diseased.json").read_text())
        of_target = {*parts["pool"], *parts["test"]}
        source = [scan for scan in source if scan.name in set(parts["source"])]
        target = [scan for scan in target if scan.name in of_target]
    return source, target


def build(channels: int, classes: int) -> nn.Module:
    """A small ``PlainConvUNet`` in 2-D."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    steps = len(WIDTHS)
    return PlainConvUNet(
        channels, steps, WIDTHS, nn.Conv2d, 3, [1] + [2] * (steps - 1), 2, classes, 2, True, nn.InstanceNorm2d,
        {"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip


class Samples:
    """Slices of some scans; a third of a batch is drawn among those with foreground, as nnU-Net does.

    Scans of one data set may differ in size; a batch is of one size, which is drawn by how many slices have it.
    """

    def __init__(self, chosen: list[tuple[Scan, list[int] | None]]) -> None:
        by_size: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for scan, slices in chosen:
            which = list(range(len(scan.label))) if slices is None else slices
            parts = by_size.setdefault(tuple(scan.label.shape[1:]), [])
            parts.append((scan.image[:, which].transpose(0, 1), scan.label[which]))
        self.groups = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in by_size.values()]
        self.share = torch.tensor([float(len(labels)) for _, labels in self.groups])
        self.foreground = [(labels > 0).flatten(1).any(1).nonzero().flatten() for _, labels in self.groups]

    def draw(self, n: int = BATCH, group: int | None = None) -> tuple[Tensor, Tensor, int]:
        """Images (n, C, H, W), labels (n, H, W), and the number of the group that they are of."""
        group = int(torch.multinomial(self.share, 1)) if group is None else group
        images, labels = self.groups[group]
        which, inside = torch.randint(len(images), (n,)), self.foreground[group]
        if len(inside):
            third = -(-n // 3)
            which = torch.cat([which[third:], inside[torch.randint(len(inside), (third,))]])
        return images[which], labels[which], group


def moved(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Mirrored, rotated and scaled as nnU-Net does (each with its probability)."""
    n = len(x)
    turn = (torch.rand(n) < 0.2) * (torch.rand(n) * 2 - 1) * np.pi
    scale = torch.where(torch.rand(n) < 0.2, 0.7 + 0.7 * torch.rand(n), 1.0)
    flips = torch.where(torch.rand(n, 2) < 0.5, -1.0, 1.0)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    theta = torch.stack([cos * flips[:, 0], -sin, sin, cos * flips[:, 1]], 1).reshape(n, 2, 2)
    grid = F.affine_grid(torch.cat([theta, torch.zeros(n, 2, 1)], 2), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False, padding_mode="border")
    if y is not None:
        y = F.grid_sample(y[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    return x, y


def recoloured(x: Tensor, strength: float = 1.0) -> Tensor:
    """Noise, blur, brightness, contrast and gamma, each for some of the samples."""
    n = len(x)

    def sometimes(p: float, low: float, high: float, otherwise: float) -> Tensor:
        value = low + (high - low) * torch.rand(n)
        hit = torch.rand(n) < min(1.0, p * strength)
        return torch.where(hit, value, torch.full_like(value, otherwise))[:, None, None, None]

    x = x + sometimes(0.15, 0, 0.3, 0) * torch.randn_like(x)
    x = x * sometimes(0.15, 0.75, 1.25, 1)
    mean = x.mean((2, 3), keepdim=True)
    x = (x - mean) * sometimes(0.15, 0.75, 1.25, 1) + mean
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    unit = ((x - low) / (high - low + 1e-6)).clamp(0, 1)
    x = unit ** sometimes(0.3, 0.7, 1.5, 1) * (high - low) + low
    share = sometimes(0.2, 0.3, 1, 0)
    return x * (1 - share) + F.avg_pool2d(x, 3, 1, 1) * share


def loss_of(logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Cross-entropy and soft Dice over the batch, nnU-Net's pair; ``known`` (N, H, W) bool leaves voxels out."""
    known = target != IGNORED if known is None else known & (target != IGNORED)
    target = target.clamp(max=logits.shape[1] - 1)
    entropy = (F.cross_entropy(logits, target, reduction="none") * known).sum() / known.sum().clamp(min=1)
    p = logits.softmax(1)[:, 1:] * known[:, None]
    hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:] * known[:, None]
    dice = (2 * (p * hot).sum((0, 2, 3)) + 1e-5) / (p.sum((0, 2, 3)) + hot.sum((0, 2, 3)) + 1e-5)
    return entropy - dice.mean()


Weights = dict[str, Tensor]


def train(network: nn.Module, weights: Weights, samples: Samples, steps: int, lr: float = 1e-3, more=None) -> Weights:
    """Fine-tune from ``weights`` by AdamW with nnU-Net's polynomial schedule.

    Args:
        network: of the shape of the weights; it is left with the trained ones.
        more: a further loss, called with the network, the labelled batch, its labels, its group and the share of the training that
            is over; None: none.
    """
    network.load_state_dict(weights)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=3e-5)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps) ** 0.9
        x, y, size = samples.draw()
        x, y = moved(x, y)
        x = recoloured(x)
        loss = loss_of(network(x), y)
        if more is not None:
            loss = loss + more(network, x, y, size, step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def between(source: Weights, trained: Weights, alpha: float) -> Weights:
    """w0 + alpha (w - w0)."""
    return {name: value + alpha * (trained[name] - value) for name, value in source.items()}


@torch.no_grad()
def probabilities(network: nn.Module, image: Tensor) -> Tensor:
    """(Z, classes, H, W) of an image (C, Z, H, W)."""
    network.eval()
    return torch.cat([network(part).softmax(1) for part in image.transpose(0, 1).split(48)])


def dice_per_class(a: Tensor, b: Tensor, classes: int) -> list[float]:
    """Dice of each foreground class between two label maps; NaN where both are empty."""
    values = []
    for c in range(1, classes):
        in_a, in_b = a == c, b == c
        both = int(in_a.sum() + in_b.sum())
        values.append(2 * int((in_a & in_b).sum()) / both if both else float("nan"))
    return values


def source_weights(
    name: str, source: list[Scan], classes: int, cache: Path, steps: int = 1500
) -> tuple[nn.Module, Weights]:
    """A network for the pair and the weights of the source model, trained once and kept."""
    torch.manual_seed(0)
    network = build(len(source[0].image), classes)
    file = cache / f"source_{name}.pth"
    if not file.is_file():
        weights = train(network, dict(network.state_dict()), Samples([(scan, None) for scan in source]), steps, 3e-3)
        with atomic_file(file) as unfinished:
            torch.save(weights, unfinished)
    return network, torch.load(file, map_location="cpu", weights_only=True)


def raw_folder() -> Path:
    """Where the target data sets are: ``nnUNet_raw``, else the test data's."""
    return Path(os.environ.get("nnUNet_raw") or test_data() / "nnUNet_raw")
