"""Small checkpoints in the very format of nnssl, with nnU-Net's real residual-encoder and plain networks in them."""

from __future__ import annotations

import json
from pathlib import Path

import tiny_source
import torch

from nnunet_active.nnunet.networks import build_network

SPACING = [1.5, 1.5, 1.5]
ARCHITECTURE = {"residual": "ResidualEncoderUNet", "plain": "PlainConvUNet"}


def network(kind: str = "residual", channels: int = 1, seed: int = 3) -> torch.nn.Module:
    """As nnssl pre-trains it: one input channel, one output channel, every weight random."""
    plans = tiny_source.plans(channels=channels, residual=kind == "residual")
    description = tiny_source.dataset_json([f"c{i}" for i in range(channels)], {"background": 0, "x": 1})
    return tiny_source.random_network(plans, "3d_fullres", description, seed)


def adaptation_plan(kind: str = "residual", channels: int = 1, spacing=SPACING, **changes) -> dict:
    arguments = {
        key: value
        for key, value in tiny_source.architecture(3, kind == "residual")["arch_kwargs"].items()
        if key != "n_conv_per_stage"
    }
    arguments.setdefault("n_blocks_per_stage", [1, 1, 1])
    stem = "encoder.stem" if kind == "residual" else "encoder.stages.0"
    resampling = {"order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "architecture_plans": {
            "arch_class_name": ARCHITECTURE[kind],
            "arch_kwargs": arguments,
            "arch_kwargs_requiring_import": ["conv_op", "norm_op", "nonlin"],
        },
        "pretrain_plan": {
            "dataset_name": "Dataset745_Tiny",
            "plans_name": "nnsslPlans",
            "original_median_spacing_after_transp": [1, 1, 1],
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {
                "onemmiso": {
                    "data_identifier": "nnsslPlans_3d_fullres",
                    "preprocessor_name": "DefaultPreprocessor",
                    "spacing_style": "onemmiso",
                    "normalization_schemes": ["ZScoreNormalization"],
                    "use_mask_for_norm": [False],
                    "resampling_fn_data": "resample_data_or_seg_to_shape",
                    "resampling_fn_data_kwargs": {"is_seg": False, **resampling},
                    "resampling_fn_mask": "resample_data_or_seg_to_shape",
                    "resampling_fn_mask_kwargs": {"is_seg": True, **resampling, "order": 1},
                    "spacing": spacing,
                    "patch_size": [16, 16, 16],
                }
            },
            "experiment_planner_used": "FixedResEncUNetPlanner",
        },
        "pretrain_num_input_channels": channels,
        "recommended_downstream_patchsize": [16, 16, 16],
        "key_to_encoder": "encoder.stages",
        "key_to_stem": stem,
        "keys_to_in_proj": [f"{stem}.convs.0.conv", f"{stem}.convs.0.all_modules.0"],
        "key_to_lpe": None,
        **changes,
    }


def write_checkpoint(
    file: Path, kind: str = "residual", channels: int = 1, weights=None, plan=None, plan_inside: bool = True
) -> Path:
    """With the keys that nnssl's trainers write."""
    plan = adaptation_plan(kind, channels) if plan is None else plan
    content = {
        "network_weights": network(kind, channels).state_dict() if weights is None else weights,
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"train_losses": [0.5]},
        "_best_ema": 0.5,
        "current_epoch": 2,
        "init_args": {"configuration_name": "onemmiso", "fold": "all"},
        "trainer_name": "BaseMAETrainer",
        "citations": [{"type": "Architecture", "name": "ResEncL", "apa_citations": ["..."]}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content | ({"nnssl_adaptation_plan": plan} if plan_inside else {}), file)
    return file


def write_published(folder: Path, **options) -> Path:
    """As published: the checkpoint, and the plan beside it."""
    write_checkpoint(folder / "checkpoint_final.pth", **options)
    plan = adaptation_plan(options.get("kind", "residual"), options.get("channels", 1))
    (folder / "adaptation_plan.json").write_text(json.dumps({**plan, "trainer_name": "BaseMAETrainer"}))
    return folder


def built_for(plans: dict, dataset_json: dict) -> torch.nn.Module:
    return build_network(plans, "3d_fullres", dataset_json)
