from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny_nnssl
import tiny_source
import torch

from nnunet_active.models.fine_tuning_plans import as_stock_plans, check_is_no_transformer, checkpoint_of_plans
from nnunet_active.models.source_model import read_source_model
from nnunet_active.nnunet.networks import build_network
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

NAME = "ptPlans__mine____Spacing__1.50_1.50_1.50___Norm__Z_Z_Z"
INFO = {"checkpoint_path": "/of/another/machine/checkpoint.pth", "key_to_encoder": "encoder", "citations": []}


def fine_tuning_plans(architecture: dict | None = None, **changes) -> dict:
    """As nnU-Net's preprocess_like_nnssl writes them."""
    plans = {**tiny_source.plans(), "plans_name": NAME, "pretrain_info": INFO}
    configured = plans["configurations"]["3d_fullres"] | changes
    if architecture is not None:
        configured["architecture"] = architecture
    return {**plans, "configurations": {"3d_fullres": configured}}


def short(name: str, arguments: dict | None) -> dict:
    return {"network_class_name": name, "arch_kwargs": arguments, "_kw_requires_import": None}


def test_a_model_that_was_fine_tuned_from_an_encoder_is_a_source_like_any_other(tmp_path):
    arguments = tiny_source.architecture()["arch_kwargs"]
    source = replace(tiny_source.source_model(), plans=fine_tuning_plans(short("PlainConvUNet", arguments)))
    source = replace(source, trainer_name="PretrainedTrainer")
    folder = tiny_source.write_trained(source, tmp_path / f"PretrainedTrainer__{NAME}__3d_fullres")
    read = read_source_model(folder)
    assert read.configuration == "3d_fullres" and "another" not in json.dumps(read.plans)
    network = build_network(read.plans, "3d_fullres", read.dataset_json)
    network.load_state_dict(read.weights)


def test_short_names_become_classes_and_no_resampling_is_no_spacing():
    stock = as_stock_plans(fine_tuning_plans(short("ResEncL", None), spacing=[None, None, None]), "it")
    configured = stock["configurations"]["3d_fullres"]
    assert configured["architecture"]["network_class_name"].endswith("unet.ResidualEncoderUNet")
    assert configured["spacing"] is None
    assert as_stock_plans(fine_tuning_plans(), "it")["configurations"] == tiny_source.plans()["configurations"]


def test_a_configuration_that_inherits_need_not_say_everything_itself():
    plans = fine_tuning_plans(short("ResEncL", None))
    more = {"inherits_from": "3d_fullres", "batch_size": 4}
    plans["configurations"]["3d_large"] = dict(more)
    stock = as_stock_plans(plans, "it")["configurations"]
    assert stock["3d_large"] == more and "." in stock["3d_fullres"]["architecture"]["network_class_name"]


def test_plans_of_other_models_stay_as_they_are():
    plans = tiny_source.plans()
    assert as_stock_plans(plans, "it") is plans


def test_transformers_are_refused_with_the_reason(tmp_path):
    with pytest.raises(
        IncompatibleSource, match="it: The pre-trained network is a PrimusM; only convolutional encoders"
    ):
        as_stock_plans(fine_tuning_plans(short("PrimusM", None)), "it")
    weights = {"eva.blocks.0.norm1.weight": torch.ones(2)}
    with pytest.raises(IncompatibleSource, match="holds a Primus transformer, which has no convolutional encoder"):
        check_is_no_transformer(weights, "it")
    source = replace(tiny_source.source_model(), weights=weights, trainer_name="nnUNet_Primus_M_Trainer")
    folder = tiny_source.write_trained(source, tmp_path / "nnUNet_Primus_M_Trainer__nnUNetPlans__3d_fullres")
    with pytest.raises(IncompatibleSource, match="holds a Primus transformer"):
        read_source_model(folder)


def test_plans_that_are_not_complete_are_said():
    with pytest.raises(ActiveError, match="The plans of it are not complete"):
        as_stock_plans({"pretrain_info": INFO, "configurations": {"3d_fullres": {}}}, "it")


def test_a_plans_file_leads_to_the_checkpoint_that_it_names(tmp_path):
    checkpoint = tiny_nnssl.write_checkpoint(tmp_path / "encoder.pth")
    file = tmp_path / f"{NAME}.json"
    file.write_text(json.dumps({**fine_tuning_plans(), "pretrain_info": {"checkpoint_path": str(checkpoint)}}))
    assert checkpoint_of_plans(file) == checkpoint
    by_plans, by_checkpoint = read_source_model(file), read_source_model(checkpoint)
    assert by_plans.encoder_only and by_plans.origin == by_checkpoint.origin
    checkpoint.unlink()
    with pytest.raises(MissingInput, match=r"names the pre-trained checkpoint .*encoder.pth, which is not there"):
        read_source_model(file)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"pretrain_info": {"checkpoint_path": null}}'])
def test_other_files_lead_nowhere(tmp_path, content):
    file = tmp_path / "plans.json"
    file.write_text(content)
    assert checkpoint_of_plans(file) is None
