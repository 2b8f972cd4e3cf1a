"""The target that all runs share: planned and preprocessed once; runs read it through links and never change it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_active.benchmark.plan import Fold, digest_of
from nnunet_active.campaign.splits import read_splits
from nnunet_active.data.cases import CaseStore, open_store
from nnunet_active.data.plans import read_plans_file
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.models.source_model import read_source_model, source_folder
from nnunet_active.nnunet.nnunet_paths import preprocessed_root, raw_folder, raw_root
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.nnunet_discovery import with_own_folder
from nnunet_active.planners.source_model_planner import SourceModelPlanner
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignError, MissingInput

_TOP = ("dataset.json", "dataset_fingerprint.json", "gt_segmentations")


@contextmanager
def nnunet_environment(**folders: Path) -> Iterator[None]:
    """Set nnU-Net's variables during the context: these folders, our trainers before others, no augmentation workers."""
    changed = {name: os.fspath(folder) for name, folder in folders.items()}
    changed |= {"nnUNet_extTrainer": with_own_folder(), "nnUNet_n_proc_DA": "0"}
    changed.setdefault("nnUNet_compile", os.environ.get("nnUNet_compile", "f"))
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class SharedTarget:
    """A planned and preprocessed target with its source network.

    Attributes:
        raw: ``nnUNet_raw``.
        preprocessed: ``nnUNet_preprocessed`` that holds it.
        dataset, plans, configuration: as nnU-Net names them.
    """

    raw: Path
    preprocessed: Path
    dataset: str
    plans: str
    configuration: str

    @property
    def folder(self) -> Path:
        """``nnUNet_preprocessed/DatasetXXX``."""
        return self.preprocessed / self.dataset

    @property
    def source(self) -> Path:
        """The folder of the source network."""
        return source_folder(self.folder, self.plans, self.configuration)

    def store(self) -> CaseStore:
        """Its preprocessed cases."""
        with nnunet_environment(nnUNet_preprocessed=self.preprocessed):
            return open_store(self.dataset, self.plans, self.configuration)

    def to_json(self) -> dict[str, str]:
        """The content for another process."""
        return {
            "raw": str(self.raw),
            "preprocessed": str(self.preprocessed),
            "dataset": self.dataset,
            "plans": self.plans,
            "configuration": self.configuration,
        }

    @classmethod
    def from_json(cls, content: dict[str, str]) -> SharedTarget:
        """Read back."""
        return cls(**{**content, "raw": Path(content["raw"]), "preprocessed": Path(content["preprocessed"])})

    def digests(self) -> dict[str, str]:
        """Digests of what a run starts from: the plans, the source network, the preprocessed cases (their files' sizes)."""
        store = self.store()
        cases = {
            case: [(store.folder / name).stat().st_size for name in names]
            for case in store.labelled_identifiers()
            for names in [sorted(f.name for f in store.folder.glob(f"{_escape(case)}[._]*"))]
        }
        weights = sorted(self.source.glob("fold_*/checkpoint_*.pth"))
        return {
            "plans": _digest_of_file(self.folder / f"{self.plans}.json"),
            "source": _digest_of_file(weights[0]),
            "cases": digest_of(cases),
        }

    def link_into(self, preprocessed: Path, shared: Path) -> Path:
        """Make ``preprocessed/DatasetXXX`` with links to this target's files, without campaigns and splits.

        Args:
            preprocessed: a run's own ``nnUNet_preprocessed``.
            shared: folder for scores that are the same in every run.

        Returns:
            The run's data set folder.
        """
        folder = preprocessed / self.dataset
        store = self.store()
        (folder / "active" / "source").mkdir(parents=True, exist_ok=True)
        data = folder / store.folder.name
        data.mkdir(exist_ok=True)
        for name in (*_TOP, f"{self.plans}.json"):
            if (self.folder / name).exists():
                _link(self.folder / name, folder / name)
        for file in store.folder.iterdir():
            if file.is_file() and not file.name.startswith("."):
                _link(file, data / file.name)
        _link(self.source, folder / "active" / "source" / self.source.name)
        (shared / "scores").mkdir(parents=True, exist_ok=True)
        _link(shared / "scores", folder / "active" / "scores")
        return folder


def _escape(name: str) -> str:
    return name.replace("[", "[[]")


def _digest_of_file(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _link(source: Path, link: Path) -> None:
    if not link.is_symlink() and not link.exists():  # a killed run may have written a file of its own there
        link.symlink_to(source.resolve())


def prepare_target(
    dataset: str, configuration: str, plans: str, model: Path | None, root: Path, processes: int = 1
) -> SharedTarget:
    """The user's own preprocessed target or, if a source model is named, one that is planned and preprocessed below ``root``.

    A benchmark keeps the target that it began with: plans made below ``root`` are used even without the model's name.

    Args:
        dataset: full name.
        configuration: nnU-Net configuration.
        plans: plans identifier.
        model: source model; None for the target below ``root`` if there is one, else the one that ``nnunet_active plan`` and
            ``preprocess`` made.
        root: the benchmark's folder.
        processes: of the preprocessing.

    Raises:
        MissingInput: something is missing; the message says which command makes it.
        CampaignError: a source model is named, but the benchmark began with another target or another model.
    """
    made = root / "target" / "nnUNet_preprocessed"
    is_planned = (made / dataset / f"{plans}.json").is_file()
    if model is None and not is_planned:
        target = SharedTarget(raw_root(), preprocessed_root(), dataset, plans, configuration)
        store = open_store(dataset, plans, configuration)
        if not target.source.is_dir():
            raise MissingInput(
                f"No source network was found in {target.source}; name it with -m MODEL, or run nnunet_active plan first."
            )
        if not store.labelled_identifiers():
            raise MissingInput(
                f"No preprocessed case with a label was found in {store.folder}; run nnunet_active preprocess."
            )
        return target
    if not is_planned and (root / "target.json").is_file():
        raise CampaignError(
            f"{root} holds a benchmark that was not begun on {dataset} with -m; leave -m out to go on with it, or use another folder "
            f"with -o."
        )
    raw = raw_folder(dataset)
    made.mkdir(parents=True, exist_ok=True)
    target = SharedTarget(raw.parent, made, dataset, plans, configuration)
    with nnunet_environment(nnUNet_preprocessed=made), contextlib.redirect_stdout(io.StringIO()):
        if model is not None and is_planned:
            _check_same_source(target, model, root)
        elif model is not None:
            SourceModelPlanner(raw, model, [configuration], plans).write()
        cases = RawDataset(raw)
        for case in [identifier for identifier, one in cases.cases.items() if one.label is None]:
            del cases.cases[case]  # a case without a label is useless here
        report = preprocess_dataset(cases, open_store(dataset, plans, configuration), cases.dataset_json, processes)
    for case, problem in report.problems.items():
        print(f"  set aside: {case}: {problem}")
    return target


def _check_same_source(target: SharedTarget, model: Path, root: Path) -> None:
    """Refuse a model other than the one that the plans below ``root`` were made from."""
    begun = read_plans_file(target.folder / f"{target.plans}.json")["source_models"].get(target.configuration)
    if begun is None:  # another configuration: opening it reports that these plans lack it
        return
    named = read_source_model(model, target.configuration)
    if weights_digest(named.weights) != begun["weights"]:
        raise CampaignError(
            f"{root} holds a benchmark that was begun with another source model ({begun['dataset']}, fold {begun['fold']}) than "
            f"{named.origin}, fold {named.fold}; leave -m out to go on with it, or use another folder with -o."
        )


def make_folds(target: SharedTarget, numbers: tuple[int, ...], splits: int, split_file: Path | None) -> list[Fold]:
    """The requested folds: from a split file, or from nnU-Net's cross-validation with ``splits`` parts.

    Raises:
        CampaignError: a fold does not exist, or leaves no case to choose from or to test on.
    """
    labelled = target.store().labelled_identifiers()
    if split_file is not None:
        content = read_splits(split_file)
        if content is None:
            raise MissingInput(f"The split file {split_file} was not found.")
    elif len(labelled) < splits:
        raise CampaignError(f"{len(labelled)} labelled cases cannot be split into {splits} parts; lower --splits.")
    else:
        content = generate_crossval_split(labelled, seed=12345, n_splits=splits)
    folds = []
    for number in numbers:
        if number >= len(content):
            raise CampaignError(f"There is no fold {number}: the split has {len(content)} (0 to {len(content) - 1}).")
        train, test = (sorted(set(content[number][key]) & set(labelled)) for key in ("train", "val"))
        if not train or not test or set(train) & set(test):
            raise CampaignError(f"Fold {number} needs preprocessed cases to choose from and others to test on.")
        folds.append(Fold(number, tuple(str(case) for case in train), tuple(str(case) for case in test)))
    return folds


def write_splits(folder: Path, fold: int, train: tuple[str, ...], val: tuple[str, ...]) -> None:
    """Write a run's ``splits_final.json`` as a user would: the same entry for every fold up to the one in use."""
    write_json(folder / "splits_final.json", [{"train": list(train), "val": list(val)}] * (fold + 1))
