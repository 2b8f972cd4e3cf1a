"""Export a trained model as a stock nnU-Net model folder, or zip, that needs nothing but nnU-Net.

Our trainers train stock networks. Only the trainer class named in a checkpoint ties it to this package, so the export
names the nearest stock ancestor instead; it also leaves out the optimizer state, the log and the paths of this
machine.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_active.models.model_files import DEFAULT_CHECKPOINT
from nnunet_active.models.model_writing import WRITTEN_BY, write_checkpoint
from nnunet_active.models.source_model import SourceModel, carry_over, read_source_model
from nnunet_active.models.weight_transfer import TransferReport
from nnunet_active.nnunet.networks import build_network, stock_trainer_name
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint
from nnunet_active.util.atomic import atomic_file, sweep, write_json
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput
from nnunet_active.util.outputs import check_output_file

_MARK = b"exported by nnunet_active"

STOCK_TRAINER = "nnUNetTrainer"


def export_model(
    trained: Path,
    folds: Sequence[str | int],
    output: str | Path,
    checkpoint: str = DEFAULT_CHECKPOINT,
    trust: bool = False,
) -> Path:
    """Export a trained model; returns the path of the export.

    Args:
        trained: ``nnUNet_results/<dataset>/<trainer>__<plans>__<configuration>``.
        folds: folds to export; they must share the plans, as the folds of one model do.
        output: a folder, in which ``<stock trainer>__<plans>__<configuration>/`` is made (existing folds of the same model
            stay), or a file ending in ``.zip`` for ``nnUNetv2_install_pretrained_model_from_zip``.
        checkpoint: which checkpoint; it is exported as ``checkpoint_final.pth``.
        trust: see `read_source_model`.

    Raises:
        MissingInput: model, fold or checkpoint does not exist; a stopped training's checkpoint has to be named.
        IncompatibleSource: the trainer builds a network of its own, which stock nnU-Net cannot build.
        ActiveError: ``output`` holds another model of the same name.
    """
    plans, _, configuration = trained.name.partition("__")[2].rpartition("__")  # plans may have "__" in their name
    models = [_portable(read_source_model(trained, configuration, fold, checkpoint, trust)) for fold in folds]
    for model in models:
        if model.checkpoint != checkpoint:
            raise MissingInput(
                f"{trained / f'fold_{model.fold}'} has no {checkpoint}: that training has not ended. Finish it with --c, or export "
                f"its state of now with -chk {model.checkpoint}."
            )
    stock = stock_trainer_name(models[0].trainer_name)
    for model in models:
        _check_stock_network(model, stock)
    return _write(models, stock, trained.parent.name, f"{stock}__{plans}__{configuration}", Path(output))


def export_source(
    source: SourceModel, plans: dict, dataset_json: dict, output: str | Path
) -> tuple[Path, TransferReport]:
    """Export the source network as it was carried over to a target, so that stock nnU-Net can predict the target's scans with it.

    The source's own model folder has the source's channels and labels, and nnU-Net stops at images with other channels.

    Args:
        source: the source model.
        plans: the target's plans.
        dataset_json: the target's ``dataset.json``.
        output: as for :func:`export_model`; the plans' name ends in ``_source``, so it can lie beside an adapted model.

    Returns:
        The path of the export, and which channels and classes were matched, new and dropped.

    Raises:
        IncompatibleSource: the source cannot be carried over.
    """
    network = build_network(plans, source.configuration, dataset_json, STOCK_TRAINER)
    report = carry_over(network, source, plans, dataset_json)
    named = {**plans, "plans_name": f"{plans['plans_name']}_source"}
    model = replace(
        source,
        plans=named,
        dataset_json=dataset_json,
        weights=network.state_dict(),
        fold="0",
        trainer_name=STOCK_TRAINER,
    )
    name = f"{STOCK_TRAINER}__{named['plans_name']}__{source.configuration}"
    return _write([_portable(model)], STOCK_TRAINER, plans["dataset_name"], name, Path(output)), report


def exported_trainer(written: Path) -> str:
    """The stock trainer that an exported folder or zip is named after; ``nnUNetv2_predict -tr`` needs it."""
    name = written.name
    if written.suffix.lower() == ".zip":
        with zipfile.ZipFile(written) as archive:
            name = archive.namelist()[0].split("/")[1]
    return name.partition("__")[0]


def _write(models: Sequence[SourceModel], stock: str, dataset: str, name: str, output: Path) -> Path:
    """Write a folder, or a zip that nnU-Net can install."""
    if output.suffix.lower() == ".zip":
        check_output_file(output, _is_exported_zip, "an exported model")
    else:
        _check_folder(output / name, models)
        for model in models:
            _write_model(model, output / name, stock)
        return output / name
    with tempfile.TemporaryDirectory(prefix="nnunet_active_") as scratch, atomic_file(output) as temporary:
        for model in models:
            _write_model(model, Path(scratch) / dataset / name, stock)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = _MARK
            for file in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(scratch).as_posix())
    return output


def _check_folder(folder: Path, models: Sequence[SourceModel]) -> None:
    """An existing folder must hold nothing but an earlier export of the same model."""
    for model in models:
        check_output_file(
            folder / f"fold_{model.fold}" / DEFAULT_CHECKPOINT, _is_exported_checkpoint, "an exported model"
        )
        if (folder / "plans.json").is_file() and _json(folder / "plans.json") != model.plans:
            raise ActiveError(f"{folder} holds a model with other plans; choose another folder with -o, or remove it.")
    sweep(folder)  # left by killed runs
    if all(one.is_dir() and not one.is_symlink() for one in folder.rglob("*")):  # a full disk stopped an earlier export
        return
    checkpoints = [*folder.glob(f"fold_*/{DEFAULT_CHECKPOINT}")]
    if not checkpoints or not all(map(_is_exported_checkpoint, checkpoints)):
        raise ActiveError(
            f"{folder} is there and is not an exported model of nnunet_active, so nothing is written into it; name another folder "
            f"with -o."
        )


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _is_exported_zip(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return archive.comment == _MARK


def _is_exported_checkpoint(file: Path) -> bool:
    return load_checkpoint(file, str(file), mmap=True).get(WRITTEN_BY) == _MARK.decode()


def _portable(model: SourceModel) -> SourceModel:
    """The model without the list of training files that ``dataset.json`` may hold, because it names paths and patients."""
    dataset_json = {key: value for key, value in model.dataset_json.items() if key != "dataset"}
    return replace(model, dataset_json=dataset_json)


def _check_stock_network(model: SourceModel, stock: str) -> None:
    network = build_network(model.plans, model.configuration, model.dataset_json, stock)
    try:
        network.load_state_dict(model.weights)
    except RuntimeError as error:
        raise IncompatibleSource(
            f"{model.origin} was trained with {model.trainer_name}, whose network differs from that of {stock}; stock "
            f"nnU-Net cannot predict with it, so it is not exported ({str(error).splitlines()[-1].strip()})."
        ) from error


def _write_model(model: SourceModel, folder: Path, stock: str) -> None:
    write_checkpoint(model, folder / f"fold_{model.fold}" / DEFAULT_CHECKPOINT, stock, _MARK.decode())
    write_json(folder / "dataset.json", model.dataset_json)
    if model.fingerprint is not None:
        write_json(folder / "dataset_fingerprint.json", model.fingerprint)
    write_json(folder / "plans.json", model.plans)
