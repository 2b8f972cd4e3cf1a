"""Read a trained nnU-Net, as a folder or as an exported zip, with everything needed to carry it to another data set.

Only the model is needed, neither the source's images nor its preprocessed data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from nnunet_active.data.dataset_json import channel_names, check_dataset_json
from nnunet_active.models.fine_tuning_plans import as_stock_plans, check_is_no_transformer, checkpoint_of_plans
from nnunet_active.models.model_files import (
    DEFAULT_CHECKPOINT,
    FOLD,
    FolderStore,
    ZipStore,
    choose_fold,
    choose_model,
    read_json,
)
from nnunet_active.models.name_mapping import HeadMapping, map_channels, map_heads
from nnunet_active.models.nnssl_model import CONFIGURATION as NNSSL_CONFIGURATION
from nnunet_active.models.nnssl_model import find_nnssl_checkpoint, read_nnssl
from nnunet_active.models.weight_transfer import TransferReport, transfer_weights
from nnunet_active.nnunet.networks import head_names, plans_manager
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint, network_weights
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.util.atomic import sweep
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

SUMMARY = "source_summary.npz"
"""The file beside ``plans.json`` that ``nnunet_active summarize-source`` writes."""


@dataclass(frozen=True)
class SourceModel:
    """A whole trained nnU-Net: its plans, the description of its training data, and all of its weights.

    Attributes:
        plans: content of ``plans.json`` as found (it may hold further configurations).
        dataset_json: content of the source's ``dataset.json``.
        fingerprint: content of ``dataset_fingerprint.json``, or None if the model came without one.
        configuration: the configuration that this network belongs to, e.g. ``3d_fullres``.
        fold: the fold that was read, ``"0"``, ``"1"``, ... or ``"all"``.
        weights: state dict on the CPU, without the prefixes that DDP and ``torch.compile`` add.
        mirror_axes: spatial axes along which images may be mirrored, in training and at inference; empty for none, as after
            ``nnUNetTrainerNoMirroring``; None if the checkpoint does not say.
        trainer_name: the trainer class named in the checkpoint.
        origin: where it was read from, for messages.
        checkpoint: file name of the checkpoint that was read.
        folds_found: all folds of the model, in order of preference.
        notes: sentences about choices made while reading.
        summary: content of ``source_summary.npz`` (see ``nnunet_active.models.source_summary``), or None if the model came without one.
        encoder_only: only the encoder is trained (a self-supervised one); decoder and heads have their initial weights.
    """

    plans: dict
    dataset_json: dict
    fingerprint: dict | None
    configuration: str
    fold: str
    weights: dict[str, Tensor]
    mirror_axes: tuple[int, ...] | None
    trainer_name: str
    origin: str
    checkpoint: str = DEFAULT_CHECKPOINT
    folds_found: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    summary: bytes | None = None
    encoder_only: bool = False


def read_source_model(
    path: str | Path,
    configuration: str | None = None,
    fold: str | int | None = None,
    checkpoint: str = DEFAULT_CHECKPOINT,
    trust: bool = False,
) -> SourceModel:
    """Read one fold of one configuration of a trained nnU-Net.

    Args:
        path: a trained model folder (``.../nnUNetTrainer__nnUNetPlans__3d_fullres``), a ``fold_X`` folder or a checkpoint
            in it, a folder that holds several of them (``nnUNet_results/DatasetXXX_Name``), or the zip that
            ``nnUNetv2_export_model_to_zip`` writes; or a checkpoint of nnssl, see :mod:`nnunet_active.models.nnssl_model`,
            or the plans file of nnU-Net's fine-tuning that names one.
        configuration: which configuration; needed only if there are several.
        fold: a number or ``"all"``; by default the lowest number that has the checkpoint, and ``all`` only if there is
            nothing else.
        checkpoint: file name of the checkpoint. If the default one is missing, ``checkpoint_best.pth`` or
            ``checkpoint_latest.pth`` replaces it, and ``notes`` says so.
        trust: read the checkpoint even if that can run code stored in it.

    Raises:
        MissingInput: path, plans.json, a usable dataset.json, fold, checkpoint or configuration is missing.
        UnsafeCheckpoint: the checkpoint cannot be read without running code from it, and ``trust`` is False.
        IncompatibleSource: second stage of a cascade, or weights that are not finite.
        ActiveError: a file is damaged or is not what its name says.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInput(
            f"The source model {path} was not found; give the trained model folder "
            f"(.../nnUNetTrainer__nnUNetPlans__3d_fullres) or the zip from nnUNetv2_export_model_to_zip."
        )
    if (found_nnssl := _read_encoder(path, configuration, trust)) is not None:
        return found_nnssl
    if path.is_file() and path.suffix == ".pth":
        if checkpoint not in (DEFAULT_CHECKPOINT, path.name):
            raise ActiveError(
                f"{path} is a checkpoint already; leave -chk {checkpoint} out, or name the fold's folder."
            )
        path, checkpoint = path.parent, path.name
    if path.is_dir() and (match := FOLD.fullmatch(path.name)):
        fold = match[1] if fold is None else fold
        path = path.parent
    store = FolderStore(path) if path.is_dir() else ZipStore(path)
    notes: list[str] = []
    model = choose_model(store, configuration)
    plans = as_stock_plans(read_json(store, model, "plans.json", required=True), store.describe(model, ""))
    fingerprint = read_json(store, model, "dataset_fingerprint.json", required=False)
    found = store.folds(model)
    fold, checkpoint = choose_fold(store, model, found, fold, checkpoint, notes)
    whose = f"{store.describe(model, 'dataset.json')} of the source model"
    dataset_json = check_dataset_json(read_json(store, model, "dataset.json", required=True), whose).content

    where = store.describe(model, f"fold_{fold}/{checkpoint}")
    with store.local_file(model, f"fold_{fold}/{checkpoint}") as file:
        content = load_checkpoint(file, where, trust)
    weights = network_weights(content, where)
    check_is_no_transformer(weights, where)
    init_args = content.get("init_args")
    trained = init_args.get("configuration") if isinstance(init_args, dict) else None
    trained = trained or model.rpartition("__")[2]
    if configuration is not None and configuration != trained:
        raise MissingInput(
            f"{where} was trained for the configuration {trained}, not {configuration}; use -c {trained}."
        )
    _check_configuration(plans, trained, store.describe(model, "plans.json"))
    key = "inference_allowed_mirroring_axes"  # for nnU-Net, None means none
    axes = (content[key] or ()) if key in content else None
    ours = content.get("nnunet_active")
    return SourceModel(
        plans=plans,
        dataset_json=dataset_json,
        fingerprint=fingerprint,
        configuration=trained,
        fold=fold,
        weights=weights,
        mirror_axes=None if axes is None else tuple(int(axis) for axis in axes),
        trainer_name=str(content.get("trainer_name", "nnUNetTrainer")),
        origin=where,
        checkpoint=checkpoint,
        folds_found=tuple(found),
        notes=tuple(notes),
        summary=store.read(model, SUMMARY),
        encoder_only=isinstance(ours, dict) and bool(ours.get("encoder_only")),
    )


def carry_over(network: nn.Module, source: SourceModel, plans: dict, dataset_json: dict) -> TransferReport:
    """Load the whole source network (stem, body, heads) in place into a network built for the target's plans.

    Args:
        network: built for ``plans`` and ``dataset_json``; may be compiled or wrapped for DDP.
        source: the source model.
        plans: the target's plans.
        dataset_json: the target's ``dataset.json``.

    Raises:
        IncompatibleSource: the networks differ in more than channels and classes; ``network`` is then unchanged.
    """
    channels = map_channels(channel_names(source.dataset_json), channel_names(dataset_json))
    heads = _map_heads(source, plans, dataset_json)
    weights = _with_own_decoder(network, source.weights) if source.encoder_only else source.weights
    return transfer_weights(network, weights, channels, heads)


def head_is_trained(source: SourceModel, plans: dict, dataset_json: dict) -> bool:
    """Whether the source's segmentation head can predict classes of the target."""
    return _map_heads(source, plans, dataset_json).trained


def _map_heads(source: SourceModel, plans: dict, dataset_json: dict) -> HeadMapping:
    theirs, own = head_names(source.plans, source.dataset_json), head_names(plans, dataset_json)
    if not source.encoder_only:
        return map_heads(theirs, own)
    reason = "The source is a pre-trained encoder without a segmentation head."
    return HeadMapping(tuple(theirs), tuple(own), (None,) * len(own), trained=False, reason=reason, names_differ=False)


def _with_own_decoder(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The source's encoder; of its untrained rest the tensors that fit, and otherwise the network's own."""
    own = unwrap(network).state_dict()
    rest = {key: value for key, value in own.items() if "encoder" not in key.split(".")}
    fits = {key: weights[key] for key, value in rest.items() if key in weights and weights[key].shape == value.shape}
    return {key: value for key, value in weights.items() if "encoder" in key.split(".")} | rest | fits


def _read_encoder(path: Path, configuration: str | None, trust: bool) -> SourceModel | None:
    """Read an nnssl checkpoint as a source model; None if ``path`` is none."""
    file = checkpoint_of_plans(path) if path.suffix == ".json" and path.is_file() else find_nnssl_checkpoint(path)
    found = read_nnssl(file, trust) if file is not None else None
    if found is None:
        return None
    if configuration not in (None, NNSSL_CONFIGURATION):
        raise MissingInput(
            f"{file} was pre-trained in three dimensions; it is a source for {NNSSL_CONFIGURATION}, not for {configuration}."
        )
    return SourceModel(
        plans=found.plans,
        dataset_json=found.dataset_json,
        fingerprint=None,
        configuration=NNSSL_CONFIGURATION,
        fold="0",
        weights=found.weights,
        mirror_axes=(0, 1, 2),
        trainer_name="nnUNetTrainer",
        origin=str(file),
        checkpoint=file.name,
        folds_found=("0",),
        notes=found.notes,
        encoder_only=True,
    )


def source_folder(preprocessed_dataset_folder: str | Path, plans_name: str, configuration: str) -> Path:
    """Where ``nnunet_active plan`` keeps the source network of a configuration."""
    return Path(preprocessed_dataset_folder) / "active" / "source" / f"{plans_name}__{configuration}"


def find_source(dataset_folder: Path, plans: str, configuration: str, fold: str, results: Path | None) -> SourceModel:
    """The source network: the one kept beside the plans, else the user's own stock training of the same data set and fold.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        plans: plans identifier.
        configuration: nnU-Net configuration.
        fold: number as text, or ``all``.
        results: ``nnUNet_results``.

    Raises:
        MissingInput: there is none; the message says how to name one.
    """
    kept = source_folder(dataset_folder, plans, configuration)
    if not kept.is_dir():
        sweep(kept.parent)  # a command killed while it replaced the network had moved it away
    if kept.is_dir():
        return read_source_model(kept, configuration)
    if results is not None:
        own = results / dataset_folder.name / f"nnUNetTrainer__{plans}__{configuration}"
        if (own / f"fold_{fold}" / "checkpoint_final.pth").is_file():
            return read_source_model(own, configuration, fold)
    raise MissingInput(
        f"No source network was found in {kept}; name the trained model with nnunet_active plan -d {dataset_folder.name} "
        f"-m MODEL -c {configuration}, or, for plans that exist already, with nnunet_active init -d {dataset_folder.name} "
        f"-c {configuration} -p {plans} -m MODEL."
    )


def _check_configuration(plans: dict, configuration: str, where: str) -> None:
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or configuration not in configurations:
        names = ", ".join(configurations) if isinstance(configurations, dict) else "none"
        raise MissingInput(f"{where} has no configuration {configuration}; it has: {names}.")
    configured = plans_manager(plans).get_configuration(configuration)
    if configured.previous_stage_name is not None:
        raise IncompatibleSource(
            f"{configuration} is the second stage of a cascade and needs the predictions of {configured.previous_stage_name}"
            f" as input; use a model of that configuration, of 2d or of 3d_fullres."
        )
