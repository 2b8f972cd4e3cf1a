"""The demo: source model, whole scans, slices and all labels on one target, with the same code that users run.

Every adaptation is a campaign of its own in a fold of its own (same cases to choose from, same held-out cases). nnU-Net's own search
for trainers finds its trainer. Nothing outside the demo's folder is written.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from tqdm import tqdm

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.commands import DEFAULT_PLANS
from nnunet_active.data.cases import open_store
from nnunet_active.data.dataset_json import read_dataset_json
from nnunet_active.data.ignore_label import add_ignore_label
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.demo.predict_and_measure import Evaluation, evaluate
from nnunet_active.demo.ways import Plan, slices_with_foreground, ways_to_adapt
from nnunet_active.models.source_model import source_folder
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_root
from nnunet_active.nnunet_discovery import discovery_folder
from nnunet_active.planners.source_model_planner import SourceModelPlanner
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.progress import bar_is_shown

TRAINER = "nnUNetTrainerActiveAdamW"


@dataclass
class Row:
    """One line of the table: a way to adapt, the scans and slices labelled, and the result on the test cases."""

    name: str
    labelled: list[str]
    evaluation: Evaluation
    slices: int = 0
    seconds: float = 0.0
    open_first: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedTarget:
    """A target that is planned and preprocessed, with its test cases."""

    dataset: str
    configuration: str
    test_images: Path
    test_labels: Path
    work: Path
    device: str = "cpu"


def use_folder(work: Path) -> None:
    """Point nnU-Net at folders inside ``work``, and at our trainers."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (work / variable).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(work / variable)
    os.environ["nnUNet_extTrainer"] = str(discovery_folder())
    os.environ["nnUNet_n_proc_DA"] = "0"
    os.environ["nnUNet_compile"] = "f"


def prepare_demo_target(raw: Path, model: Path, configuration: str | None) -> tuple[str, str]:
    """Plan from the source model and preprocess; returns the data set's name and the configuration."""
    with redirect_stdout(io.StringIO()):
        planner = SourceModelPlanner(raw, model, None if configuration is None else [configuration])
        planner.write()
    configuration = planner.sources[0].configuration
    file = preprocessed_folder(raw.name) / "dataset.json"
    add_ignore_label([file])  # for slices that nobody labels; the raw file may be the user's own and stays unchanged
    store, dataset_json = open_store(raw.name, DEFAULT_PLANS, configuration), read_dataset_json(file).content
    report = preprocess_dataset(RawDataset(raw), store, dataset_json, 1)
    for problem in report.problems.values():
        print(f"  set aside: {problem}")
    return raw.name, configuration


def hold_out(raw: Path, work: Path, share: float, seed: int) -> tuple[list[str], Path, Path]:
    """Test cases from a user's own data: a seeded share of the labelled ones, linked into folders for the evaluation.

    Raises:
        MissingInput: fewer than six labelled cases.
    """
    dataset = RawDataset(raw)
    if len(dataset.labelled) < 6:
        raise MissingInput(
            f"{raw / 'labelsTr'} has {len(dataset.labelled)} labelled case(s); the comparison needs at least six, since labels "
            f"are withheld and test cases are set apart."
        )
    rng = np.random.default_rng(seed)
    test = sorted(rng.choice(dataset.labelled, max(2, round(share * len(dataset.labelled))), replace=False).tolist())
    images, labels = work / "test_images", work / "test_labels"
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():  # an attempt with another seed linked other cases
            if left.is_symlink():
                left.unlink()
    for case in test:
        for index, image in enumerate(dataset.cases[case].images):
            _link(image, images / f"{case}_{index:04d}{dataset.file_ending}")
        if spacing := dataset.cases[case].spacing_file:
            _link(spacing, images / f"{case}.json")
        _link(dataset.cases[case].label, labels / f"{case}{dataset.file_ending}")
    return test, images, labels


def _link(source: Path, target: Path) -> None:
    if not target.exists():
        target.symlink_to(source.resolve())


def compare_ways(target: PreparedTarget, plan: Plan, test: list[str], log: Log = print) -> list[Row]:
    """The source model, and each of :func:`~nnunet_active.demo.ways.ways_to_adapt`: train and evaluate.

    Args:
        target: planned and preprocessed.
        plan: length of the trainings.
        test: cases of ``imagesTr`` that are set aside (none if the test cases are in a folder of their own).
        log: receives messages.
    """
    store = open_store(target.dataset, DEFAULT_PLANS, target.configuration)
    pool = sorted(set(store.labelled_identifiers()) - set(test))
    held_out = test or pool[:2]
    train = sorted(set(pool) - set(held_out))
    drawn = slices_with_foreground(RawDataset(raw_root() / target.dataset), train)
    ways = ways_to_adapt(plan, train, drawn)
    folder = preprocessed_folder(target.dataset)
    write_json(folder / "splits_final.json", [{"train": train, "val": held_out}] * len(ways))
    kept = source_folder(folder, DEFAULT_PLANS, target.configuration)
    (fold_of_source,) = (folder.name.removeprefix("fold_") for folder in kept.glob("fold_*"))
    predicted = target.work / "predictions"
    rows = [Row("source model", [], _evaluate(target, kept, fold_of_source, predicted / "source"))]
    for fold, (name, settings) in enumerate(ways.items()):
        row = _adapt(target, name, str(fold), settings, predicted / name.replace(" ", "_"), log)
        campaign = Campaign.open(folder, str(fold))
        row.slices = campaign.labels_known() if settings.in_slices else sum(drawn.get(case, 0) for case in row.labelled)
        rows.append(row)
    return rows


def _evaluate(target: PreparedTarget, model: Path, fold: str, output: Path) -> Evaluation:
    return evaluate(model, target.test_images, target.test_labels, output, fold, target.device, progress=False)


def _adapt(target: PreparedTarget, name: str, fold: str, settings: Settings, output: Path, log: Log) -> Row:
    start = time.perf_counter()
    with redirect_stdout(io.StringIO()):
        start_campaign(Place.of(target.dataset, target.configuration, DEFAULT_PLANS, fold), settings)
    if hidden := not bar_is_shown():
        log(f"{name}: {settings.epochs} epochs")
    with tqdm(total=settings.epochs, desc=f"{name:12}", unit="epoch", disable=hidden) as bar, _Console(bar) as console:
        trainer = get_trainer_from_args(
            target.dataset, target.configuration, int(fold), TRAINER, DEFAULT_PLANS, device=torch.device(target.device)
        )
        trainer.run_training()
        model = Path(trainer.output_folder_base)
        bar.update(settings.epochs - bar.n)
    log("\n".join(console.kept) if settings.strategy == "mmacts" else "")
    campaign = Campaign.open(preprocessed_folder(target.dataset), fold)
    opened = {
        case: entry["name"] for one in campaign.rounds for case, entry in one.selection()["dominant_modality"].items()
    }
    evaluation = _evaluate(target, model, fold, output)
    return Row(name, campaign.requested(), evaluation, seconds=time.perf_counter() - start, open_first=opened)


class _Console(io.TextIOBase):
    """Takes nnU-Net's output: counts epochs on a bar and keeps the lines about queries."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar
        self.kept: list[str] = []
        self._stack = (redirect_stdout(self), redirect_stderr(io.StringIO()))

    def __enter__(self) -> _Console:
        for one in self._stack:
            one.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for one in reversed(self._stack):
            one.__exit__(*error)

    def write(self, text: str) -> int:
        for line in text.splitlines():
            line = re.sub(r"^\S+ \S+: ", "", line)
            if line.startswith("Epoch time"):
                self.bar.update()
            if re.match(r"\s+\S+: utility|Query \d+ before", line):
                self.kept.append("  " + line)
        return len(text)


def table_of(rows: list[Row]) -> pd.DataFrame:
    """Labelled scans and slices with foreground, Dice and IoU per class and their means, one line per way."""
    lines = []
    for row in rows:
        line: dict[str, object] = {"": row.name, "scans": len(row.labelled), "slices": row.slices}
        for name, values in row.evaluation.per_class.iterrows():
            line[f"Dice {name}"] = values["dice"]
            line[f"IoU {name}"] = values["iou"]
        line["mean Dice"] = row.evaluation.mean_dice
        line["mean IoU"] = row.evaluation.mean_iou
        lines.append(line)
    return pd.DataFrame(lines)


def save_rows(rows: list[Row], file: Path) -> None:
    """Write the table, the picks and the times as JSON."""
    write_json(
        file,
        [
            {
                "name": row.name,
                "labelled": row.labelled,
                "slices": row.slices,
                "open_first": row.open_first,
                "seconds": round(row.seconds, 1),
                "per_class": json.loads(row.evaluation.per_class.to_json(orient="index")),
                "mean_dice": row.evaluation.mean_dice,
                "mean_iou": row.evaluation.mean_iou,
            }
            for row in rows
        ],
    )
