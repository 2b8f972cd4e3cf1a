"""``nnunet_active predict``: predicts with an adapted model, guarded by the source network that it was adapted from."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from nnunet_active.data.dataset_json import channel_names
from nnunet_active.data.image_checks import check_image, image_reader
from nnunet_active.nnunet.guarded_predictor import GuardedPredictor
from nnunet_active.nnunet.networks import head_names
from nnunet_active.nnunet.nnunet_paths import dataset_name, results_root
from nnunet_active.training.comparison_table import KEPT_SOURCE
from nnunet_active.training.cut_short import remove_parts, without_parts
from nnunet_active.training.guard_table import GuardTable, guard_file
from nnunet_active.training.nearer_weights import NEAR, STOCK, NearerWeights, check_is_adapted, nearer_weights
from nnunet_active.util.atomic import naming_full_disk
from nnunet_active.util.errors import BadCase, MissingInput
from nnunet_active.util.outputs import check_output_folder
from nnunet_active.workspace import Workspace

_CHANNEL = re.compile(r".+_\d{4}")
_ARGUMENTS = "predict_from_raw_data_args.json"
"""nnU-Net writes it into every folder of predictions."""


@dataclass(frozen=True)
class PredictOptions:
    """The flags of ``nnUNetv2_predict``.

    Attributes:
        images, output: folders.
        dataset: number or name.
        configuration: nnU-Net configuration; None for the campaign's, or the only possible one.
        plans: plans identifier; None for the campaign's, or the default.
        trainer: class name; None for the one in the campaign's commands.
        folds: numbers as text, or ``all``.
        checkpoint: file name.
        device: where to predict.
        step_size: step of the sliding window, as a share of the patch.
        mirroring: test-time augmentation.
        save_probabilities, overwrite, npp, nps, progress, on_device, verbose: as in nnU-Net.
        part: number of the part of the cases to predict (from 0), and how many parts there are.
    """

    images: Path
    output: Path
    dataset: str
    configuration: str | None
    plans: str | None
    trainer: str | None
    folds: Sequence[str]
    checkpoint: str
    device: torch.device
    step_size: float = 0.5
    mirroring: bool = True
    save_probabilities: bool = False
    overwrite: bool = True
    npp: int = 3
    nps: int = 3
    progress: bool = True
    on_device: bool = True
    verbose: bool = False
    part: tuple[int, int] = (0, 1)


@dataclass
class GuardedPrediction:
    """The outcome for a folder of images.

    Attributes:
        lines: what the guard did, for people.
        problems: for each case without a prediction, one sentence that says why.
        warnings: sentences about odd images that nnU-Net accepts nevertheless.
    """

    lines: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def predict_guarded(options: PredictOptions) -> GuardedPrediction:
    """Predict a folder of images. Each image is checked first: a damaged one is left out, and the others are still predicted.

    Raises:
        MissingInput: model, source network or images were not found, or none of our trainers wrote the model.
        ActiveError: the source network does not fit the model.
    """
    workspaces = [
        Workspace(dataset_name(options.dataset), fold, options.configuration, options.plans) for fold in options.folds
    ]
    first = workspaces[0]
    name = f"{options.trainer or first.trainer}__{first.plans_name}__{first.configuration}"
    model = results_root() / first.dataset / name
    files = [model / f"fold_{fold}" / options.checkpoint for fold in options.folds]
    contents = [check_is_adapted(file) for file in files]
    predictor = _predictor(options)
    predictor.part = options.part
    with contextlib.redirect_stdout(io.StringIO()):
        predictor.initialize_from_trained_model_folder(str(model), tuple(options.folds), options.checkpoint)
    plans, dataset_json = predictor.plans_manager.plans, predictor.dataset_json
    cases = _checked_cases(options, dataset_json["file_ending"])
    weights: list[NearerWeights] = []
    sources = {}
    for workspace, file, content in zip(workspaces, files, contents, strict=True):
        try:
            source = workspace.source
        except MissingInput as error:
            raise MissingInput(f"{error} To predict without a guard, {STOCK}.") from error
        weights.append(nearer_weights(content, str(file), source, plans, dataset_json))
        sources[source.origin] = weights[-1].source
    options.output.mkdir(parents=True, exist_ok=True)
    result = GuardedPrediction()
    _leave_out_damaged(predictor, result)
    if not any(one.differ for one in weights):
        _predict(predictor, options, cases, result)
        if options.overwrite:  # an old table describes another model's predictions
            (options.output / guard_file(options.part)).unlink(missing_ok=True)
        near = f"This model predicts by weights {NEAR:.0%} of the way from the source or nearer."
        why = KEPT_SOURCE if all(one.is_source for one in weights) else near
        result.lines.append(f"Guard: there was nothing to do. {why}")
        return result
    regions = predictor.label_manager.has_regions
    table = GuardTable(options.output, head_names(plans, dataset_json), regions, not options.overwrite, options.part)
    predictor.guard([*sources.values()], [one.nearer for one in weights], table.add)
    _predict(predictor, options, cases, result)
    result.lines += table.lines()
    return result


def _leave_out_damaged(predictor: GuardedPredictor, result: GuardedPrediction) -> None:
    reader, channels = image_reader(predictor.plans_manager.plans), len(channel_names(predictor.dataset_json))

    def can_be_used(case: str, files: Sequence[str]) -> bool:
        try:
            found = check_image(case, [Path(file) for file in files], reader, channels)
        except BadCase as error:
            result.problems[case] = str(error)
            return False
        result.warnings += found.warnings
        return True

    predictor.can_be_used = can_be_used


def _checked_cases(options: PredictOptions, ending: str) -> dict[str, Path]:
    """Case -> its prediction, of this part. Checks that there are images, and that no label or other file would be overwritten."""
    images = options.images
    if not images.is_dir():
        found = "is a file" if images.exists() else "was not found"
        raise MissingInput(f"{images} {found}; -i names the folder of the images.")
    stems = sorted(file.name.removesuffix(ending) for file in images.glob(f"*{ending}"))
    if stray := [stem for stem in stems if not _CHANNEL.fullmatch(stem)]:
        raise MissingInput(
            f"{images / (stray[0] + ending)} has no channel number, and nnU-Net takes every file there for an image; name it "
            f"CASE_0000{ending}, or move it away."
        )
    names = sorted({stem[:-5] for stem in stems})
    part, parts = options.part
    cases = {name: options.output / f"{name}{ending}" for name in names[part::parts]}  # as nnU-Net divides them
    if not names:
        raise MissingInput(
            f"{images} holds no image CASE_0000{ending}, which the model needs; name another folder with -i."
        )
    written = ["dataset.json", "plans.json"]
    if options.overwrite:
        files = [ending, *((".npz", ".pkl") if options.save_probabilities else ())]
        written += [guard_file(options.part), *(f"{case}{end}" for case in cases for end in files)]
    check_output_folder(options.output, _is_of_predictions, written, "a folder of predictions")
    return cases


def _is_of_predictions(folder: Path) -> bool:
    return (folder / _ARGUMENTS).is_file()


@contextlib.contextmanager
def _threads(device: torch.device) -> Iterator[None]:
    """Use as many threads as nnUNetv2_predict does, and restore the process's own number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(multiprocessing.cpu_count() if device.type == "cpu" else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _predictor(options: PredictOptions) -> GuardedPredictor:
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints an explanation of a flag that nobody set
        return GuardedPredictor(
            tile_step_size=options.step_size,
            use_gaussian=True,
            use_mirroring=options.mirroring,
            perform_everything_on_device=options.on_device,
            device=options.device,
            verbose=options.verbose,
            verbose_preprocessing=options.verbose,
            allow_tqdm=options.progress,
        )


def _predict(
    predictor: GuardedPredictor, options: PredictOptions, cases: dict[str, Path], result: GuardedPrediction
) -> None:
    """Predict as nnUNetv2_predict does, but remove and name predictions that were cut short."""
    probabilities = [options.output / f"{case}.npz" for case in cases]
    if not options.overwrite and _is_of_predictions(options.output):
        result.warnings += [
            f"{file} was cut short, as by a kill, and is predicted again."
            for file in remove_parts([*cases.values(), *probabilities])
        ]
    with (
        naming_full_disk(options.output),
        _threads(options.device),
        without_parts([*cases.values(), *probabilities]) as gone,
    ):
        _predict_all(predictor, options)
    result.problems |= {
        case: f"Case {case}: the prediction {file} could not be written whole, as where a disk is full; make room, then predict again "
        f"with --continue_prediction."
        for case, file in cases.items()
        if file in gone
    }


def _predict_all(predictor: GuardedPredictor, options: PredictOptions) -> None:
    """Predict in this process alone if npp and nps are 0."""
    places, how = (str(options.images), str(options.output)), {"save_probabilities": options.save_probabilities}
    if options.npp == 0 and options.nps == 0:
        predictor.predict_from_files_sequential(*places, overwrite=options.overwrite, **how)
        return
    predictor.predict_from_files(
        *places,
        overwrite=options.overwrite,
        num_processes_preprocessing=options.npp,
        num_processes_segmentation_export=options.nps,
        num_parts=options.part[1],
        part_id=options.part[0],
        **how,
    )
