"""Self-supervised encoders of MIC-DKFZ's nnssl as the source: turns an nnssl checkpoint into plans, a network and its weights.

Format (read from the public repository and its published model cards; reimplemented, no code of theirs): a checkpoint is a dictionary
with ``network_weights`` (a state dict that holds the encoder and whatever else was trained on it), ``trainer_name``, perhaps
``citations``, and ``nnssl_adaptation_plan``, which is also written beside it as ``adaptation_plan.json``:

* ``architecture_plans``: ``arch_class_name`` (``ResEncL``, ``NoSkipResEncL``, ``ResidualEncoderUNet``, ``PlainConvUNet``,
  ``Primus...``), and ``arch_kwargs``, ``arch_kwargs_requiring_import`` if the name alone is not enough
* ``pretrain_plan``: axis order and one configuration with spacing (None: not resampled), normalisation and resampling
* ``pretrain_num_input_channels``, ``recommended_downstream_patchsize``
* ``key_to_encoder``, ``key_to_stem``: prefixes of the encoder's keys in ``network_weights``

What we make of it (our choice): a U-Net of that architecture. Its encoder has these weights; its decoder and head are
initialised with a fixed seed, so that every reading gives the same network. Spacing, patch size, normalisation and axis order are
those of the pre-training. Transformers (``Primus...``) have no convolutional encoder to carry over and are refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint, network_weights
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

CONFIGURATION = "3d_fullres"
PLAN_KEY = "nnssl_adaptation_plan"
PLAN_FILE = "adaptation_plan.json"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
_READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")
_CLASSES = {
    name: f"dynamic_network_architectures.architectures.unet.{name}"
    for name in ("ResidualEncoderUNet", "PlainConvUNet")
}
_BATCH_SIZE = 2
_SEED = 0

_STAGES = 6
RES_ENC_L: dict[str, Any] = {
    "n_stages": _STAGES,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * _STAGES,
    "strides": [[1, 1, 1], *[[2, 2, 2]] * (_STAGES - 1)],
    "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1] * (_STAGES - 1),
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
"""The architecture behind nnssl's presets ``ResEncL`` and ``NoSkipResEncL``; their encoders are the same."""


@dataclass(frozen=True)
class NnsslEncoder:
    """A pre-trained encoder in a network that nnU-Net can build.

    Attributes:
        plans: stock plans with the configuration ``3d_fullres``; its spacing is None if the pre-training did not resample.
        dataset_json: placeholder channels and classes; no name of a target equals them.
        weights: state dict of the whole network; only its encoder is trained.
        trainer_name: the nnssl trainer.
        notes: sentences for the user.
    """

    plans: dict
    dataset_json: dict
    weights: dict[str, Tensor]
    trainer_name: str
    notes: tuple[str, ...]


def find_nnssl_checkpoint(path: Path) -> Path | None:
    """The checkpoint file that ``path`` means, if it may be from nnssl; None for a trained nnU-Net or anything else.

    Accepted are a ``.pth`` file outside of an nnU-Net model folder; a folder with ``adaptation_plan.json``, the layout of published
    models and of nnssl's own results (checkpoint in it, or in its ``fold_X``); and such a ``fold_X``.
    """
    if path.is_file():
        inside_nnunet = any((folder / "dataset.json").is_file() for folder in (path.parent, path.parent.parent))
        return path if path.suffix == ".pth" and not inside_nnunet else None
    if not path.is_dir():
        return None
    if (path / PLAN_FILE).is_file():
        folders = [path, *sorted(path.glob("fold_*"))]
    elif (path.parent / PLAN_FILE).is_file() and path.name.startswith("fold_"):
        folders = [path]
    else:
        return None
    found = (folder / name for folder in folders for name in _CHECKPOINTS)
    checkpoint = next((file for file in found if file.is_file()), None)
    if checkpoint is None:
        raise MissingInput(f"{path} has an {PLAN_FILE}, but no {_CHECKPOINTS[0]} in it or in a fold_X folder of it.")
    return checkpoint


def read_nnssl(file: Path, trust: bool = False) -> NnsslEncoder | None:
    """Read a checkpoint; None if neither it nor a file beside it holds an adaptation plan, so that it is not from nnssl.

    Args:
        file: the checkpoint.
        trust: see :func:`~nnunet_active.nnunet.safe_checkpoint.load_checkpoint`.

    Raises:
        UnsafeCheckpoint: it cannot be read without running code from it, and ``trust`` is False.
        IncompatibleSource: an architecture that is not a convolutional U-Net, or weights that do not fit it.
        ActiveError: the file, or its adaptation plan, is damaged.
    """
    content = load_checkpoint(file, str(file), trust)
    plan = content.get(PLAN_KEY) or _plan_beside(file)
    if plan is None:
        return None
    where = f"The adaptation plan of {file}"
    try:
        channels = int(plan["pretrain_num_input_channels"])
        keys = str(plan["key_to_encoder"]), str(plan["key_to_stem"])
        plans = _plans(plan)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ActiveError(f"{where} is not complete ({type(error).__name__}: {error}); copy it again.") from error
    dataset_json = {
        "channel_names": {str(i): f"pre-training image {i}" for i in range(channels)},
        "labels": {"background": 0, "not trained": 1},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        try:
            network = build_network(plans, CONFIGURATION, dataset_json)
        except (ImportError, TypeError, ValueError, AssertionError) as error:
            raise IncompatibleSource(f"{where} describes a network that cannot be built here: {error}") from error
    weights = network_weights(content, str(file))
    own = network.key_to_encoder, network.key_to_stem
    for theirs, mine in zip(keys, own, strict=True):
        part = {key[len(theirs) + 1 :]: value for key, value in weights.items() if key.startswith(f"{theirs}.")}
        if not part:
            raise IncompatibleSource(f"{file} has no weights below {theirs}, where its adaptation plan says they are.")
        try:
            network.get_submodule(mine).load_state_dict(part)
        except RuntimeError as error:
            first = " ".join(str(error).split()[:40])
            raise IncompatibleSource(f"The encoder in {file} does not fit its own adaptation plan: {first}") from error
    trainer = str(content.get("trainer_name", plan.get("trainer_name", "unknown")))
    pretraining = plan["pretrain_plan"].get("dataset_name", "unknown data")
    notes = [
        f"Self-supervised encoder of nnssl ({trainer}, pre-trained on {pretraining}): decoder and segmentation head are not "
        f"trained, so the first query can use the features alone (strategy assft; coreset, typiclust and the like)."
    ]
    cited = sorted({str(entry.get("name")) for entry in content.get("citations") or [] if isinstance(entry, dict)})
    notes += [f"Its authors ask to cite: {', '.join(cited)} (the references are in the checkpoint)."] if cited else []
    return NnsslEncoder(plans, dataset_json, network.state_dict(), trainer, tuple(notes))


def _plan_beside(file: Path) -> dict | None:
    for folder in (file.parent, file.parent.parent):
        if (folder / PLAN_FILE).is_file():
            try:
                return json.loads((folder / PLAN_FILE).read_text())
            except ValueError as error:
                raise ActiveError(f"{folder / PLAN_FILE} is not valid JSON ({error}); copy it again.") from error
    return None


def _plans(plan: dict) -> dict:
    pretrained = plan["pretrain_plan"]
    configured = next(iter(pretrained["configurations"].values()))
    patch = [int(n) for n in plan["recommended_downstream_patchsize"]]
    spacing = configured.get("spacing")
    resampling = {"order_z": 0, "force_separate_z": None}
    reader = pretrained.get("image_reader_writer")
    return {
        "dataset_name": pretrained.get("dataset_name", "nnssl"),
        "plans_name": pretrained.get("plans_name", "nnsslPlans"),
        "original_median_spacing_after_transp": pretrained.get("original_median_spacing_after_transp"),
        "original_median_shape_after_transp": patch,
        "image_reader_writer": reader if reader in _READERS else "SimpleITKIO",
        "transpose_forward": list(pretrained["transpose_forward"]),
        "transpose_backward": list(pretrained["transpose_backward"]),
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"nnsslPlans_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": _BATCH_SIZE,
                "patch_size": patch,
                "median_image_size_in_voxels": patch,
                "spacing": None if spacing is None or None in list(spacing) else [float(s) for s in spacing],
                "normalization_schemes": _per_channel(plan, configured["normalization_schemes"]),
                "use_mask_for_norm": _per_channel(plan, configured["use_mask_for_norm"]),
                "resampling_fn_data": configured["resampling_fn_data"],
                "resampling_fn_data_kwargs": dict(configured["resampling_fn_data_kwargs"]),
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
                "architecture": stock_architecture(plan["architecture_plans"]),
                "batch_dice": False,
            }
        },
        "experiment_planner_used": str(pretrained.get("experiment_planner_used")),
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }


def _per_channel(plan: dict, values: Any) -> list:
    """The values as a list: nnssl writes one value for all channels, or a single one outside of a list."""
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    channels = int(plan["pretrain_num_input_channels"])
    return values if len(values) == channels else [values[0]] * channels


def stock_architecture(described: dict) -> dict:
    """Describe an adaptation plan's network (``arch_class_name``, ``arch_kwargs``) as nnU-Net's plans do.

    Raises:
        IncompatibleSource: it is no convolutional U-Net, or uses modules from outside torch.nn.
    """
    name = str(described["arch_class_name"]).split(".")[-1]
    if name in ("ResEncL", "NoSkipResEncL"):
        name, arguments = "ResidualEncoderUNet", dict(RES_ENC_L)
    elif name in _CLASSES and described.get("arch_kwargs"):
        arguments = dict(described["arch_kwargs"])
    else:
        raise IncompatibleSource(
            f"The pre-trained network is a {name}; only convolutional encoders can be carried over: ResEncL, NoSkipResEncL, "
            f"{', '.join(_CLASSES)}."
        )
    if name == "PlainConvUNet" and "n_blocks_per_stage" in arguments:
        arguments["n_conv_per_stage"] = arguments.pop("n_blocks_per_stage")
    imported = ("conv_op", "norm_op", "dropout_op", "nonlin")
    for key in imported:  # names from a foreign file are looked up only in torch
        value = arguments.get(key)
        if value is not None and not str(value).startswith("torch.nn."):
            raise IncompatibleSource(
                f"The pre-trained network uses {value} as its {key}, which is not a module of torch.nn."
            )
    return {"network_class_name": _CLASSES[name], "arch_kwargs": arguments, "_kw_requires_import": list(imported)}
