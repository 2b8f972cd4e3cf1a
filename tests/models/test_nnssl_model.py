from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_nnssl
import tiny_source
import torch
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.cli.main import main
from nnunet_active.data.plans import read_plans
from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.nnssl_model import RES_ENC_L, find_nnssl_checkpoint, read_nnssl
from nnunet_active.models.source_model import carry_over, head_is_trained, read_source_model, source_folder
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.query.selector import run_query
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput, UnsafeCheckpoint
from nnunet_active.workspace import Workspace

CHANNELS, CLASSES = ["T1", "FLAIR", "T1ce"], ["background", "oedema", "core"]


def encoder_of(weights):
    return {key: value for key, value in weights.items() if key.startswith("encoder.")}


@pytest.mark.parametrize("kind", ["residual", "plain"])
def test_the_encoder_is_the_checkpoints_and_the_rest_is_the_same_at_every_reading(tmp_path, kind):
    file = tiny_nnssl.write_checkpoint(tmp_path / "weights.pth", kind)
    source = read_source_model(file)
    pretrained = tiny_nnssl.network(kind).state_dict()
    for key, value in encoder_of(pretrained).items():
        torch.testing.assert_close(source.weights[key], value, rtol=0, atol=0)
    torch.manual_seed(99)
    again = read_source_model(file)
    assert all(torch.equal(again.weights[key], value) for key, value in source.weights.items())
    assert source.encoder_only and source.configuration == "3d_fullres"
    assert any("BaseMAETrainer" in note and "Dataset745_Tiny" in note for note in source.notes)
    assert any("ResEncL" in note for note in source.notes)
    assert source.plans["configurations"]["3d_fullres"]["spacing"] == tiny_nnssl.SPACING


def test_a_contrastive_checkpoint_holds_an_encoder_and_a_projector_and_no_decoder(tmp_path):
    weights = encoder_of(tiny_nnssl.network().state_dict()) | {"projector.layer1.0.weight": torch.ones(4, 2)}
    source = read_source_model(tiny_nnssl.write_checkpoint(tmp_path / "simclr.pth", weights=weights))
    assert torch.equal(source.weights["encoder.stem.convs.0.conv.weight"], weights["encoder.stem.convs.0.conv.weight"])
    assert "projector.layer1.0.weight" not in source.weights


def test_published_folders_results_folders_and_files_are_found(tmp_path):
    published = tiny_nnssl.write_published(tmp_path / "published")
    results = tiny_nnssl.write_published(tmp_path / "results")
    (results / "fold_all").mkdir()
    (results / "checkpoint_final.pth").rename(results / "fold_all" / "checkpoint_final.pth")
    for path in (published, published / "checkpoint_final.pth", results, results / "fold_all"):
        assert read_source_model(path).encoder_only
    old = tiny_nnssl.write_published(tmp_path / "old", plan_inside=False)
    assert read_source_model(old / "checkpoint_final.pth").encoder_only
    trained = tiny_source.write_trained(tiny_source.source_model(), tmp_path / "trained")
    for path in (trained, trained / "fold_0", trained / "fold_0" / "checkpoint_final.pth"):
        assert find_nnssl_checkpoint(path) is None
        assert not read_source_model(path).encoder_only
    (published / "checkpoint_final.pth").unlink()
    with pytest.raises(MissingInput, match="checkpoint_final"):
        read_source_model(published)


def test_a_preset_names_the_large_residual_network():
    plans = tiny_source.plans(channels=1)
    plans["configurations"]["3d_fullres"]["architecture"] = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": RES_ENC_L,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    network = build_network(plans, "3d_fullres", tiny_source.dataset_json(["x"], {"background": 0, "a": 1}))
    encoder = network.encoder
    assert encoder.output_channels == [32, 64, 128, 256, 320, 320]
    assert [len(stage.blocks) for stage in encoder.stages] == [1, 3, 4, 6, 6, 6]
    assert network.key_to_encoder == "encoder.stages" and network.key_to_stem == "encoder.stem"


def test_a_preset_is_known_by_its_name_alone(tmp_path, monkeypatch):
    small = tiny_nnssl.adaptation_plan()["architecture_plans"]["arch_kwargs"]
    monkeypatch.setattr("nnunet_active.models.nnssl_model.RES_ENC_L", small)
    preset = {"arch_class_name": "ResEncL", "arch_kwargs": None, "arch_kwargs_requiring_import": None}
    plan = tiny_nnssl.adaptation_plan(architecture_plans=preset)
    assert read_source_model(tiny_nnssl.write_checkpoint(tmp_path / "x.pth", plan=plan)).encoder_only


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"architecture_plans": {"arch_class_name": "PrimusM", "arch_kwargs": None}}, "PrimusM"),
        ({"key_to_encoder": "backbone.stages"}, "backbone.stages"),
        ({"key_to_stem": None}, "None"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_a_reason(tmp_path, changes, match):
    file = tiny_nnssl.write_checkpoint(tmp_path / "x.pth", plan=tiny_nnssl.adaptation_plan(**changes))
    with pytest.raises(IncompatibleSource, match=match):
        read_source_model(file)


def test_modules_from_elsewhere_weights_that_do_not_fit_and_half_a_plan_are_refused(tmp_path):
    plan = tiny_nnssl.adaptation_plan()
    plan["architecture_plans"]["arch_kwargs"]["nonlin"] = "os.system"
    with pytest.raises(IncompatibleSource, match=r"os\.system"):
        read_nnssl(tiny_nnssl.write_checkpoint(tmp_path / "a.pth", plan=plan))
    plan = tiny_nnssl.adaptation_plan()
    plan["architecture_plans"]["arch_kwargs"]["features_per_stage"] = [4, 6, 10]
    with pytest.raises(IncompatibleSource, match="does not fit"):
        read_nnssl(tiny_nnssl.write_checkpoint(tmp_path / "b.pth", plan=plan))
    plan = tiny_nnssl.adaptation_plan()
    del plan["pretrain_plan"]["configurations"]
    with pytest.raises(ActiveError, match="configurations"):
        read_nnssl(tiny_nnssl.write_checkpoint(tmp_path / "c.pth", plan=plan))
    torch.save({"network_weights": {"a": torch.ones(1)}, "init_args": print}, tmp_path / "d.pth")
    with pytest.raises(UnsafeCheckpoint):
        read_nnssl(tmp_path / "d.pth")


def test_a_two_dimensional_configuration_cannot_come_from_it(tmp_path):
    with pytest.raises(MissingInput, match="not for 2d"):
        read_source_model(tiny_nnssl.write_checkpoint(tmp_path / "x.pth"), "2d")


def test_the_kept_source_folder_remembers_that_only_the_encoder_is_trained(tmp_path):
    source = read_source_model(tiny_nnssl.write_checkpoint(tmp_path / "x.pth"))
    save_source_model(source, tmp_path / "kept")
    kept = read_source_model(tmp_path / "kept")
    assert kept.encoder_only
    assert all(torch.equal(kept.weights[key], value) for key, value in source.weights.items())


def test_the_features_of_one_channel_are_shared_out_and_the_decoder_may_be_another_one(tmp_path):
    source = read_source_model(tiny_nnssl.write_checkpoint(tmp_path / "x.pth"))
    dataset_json = tiny_source.dataset_json()
    plans = tiny_source.plans(channels=3, residual=True)
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_conv_per_stage_decoder"] = [2, 2]
    network = tiny_nnssl.built_for(plans, dataset_json).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = carry_over(network, source, plans, dataset_json)
    assert not report.head_trained and not head_is_trained(source, plans, dataset_json)
    assert any("without a segmentation head" in line for line in report.lines())
    after = network.state_dict()
    head = "decoder.seg_layers.1.weight"
    assert torch.equal(after[head], before[head])
    image = torch.randn(1, 1, 16, 16, 16)
    pretrained = tiny_nnssl.network()
    torch.testing.assert_close(
        network.encoder(image.expand(1, 3, -1, -1, -1))[-1], pretrained.encoder(image)[-1], rtol=1e-4, atol=1e-4
    )


@pytest.fixture
def planned(nnunet_folders, tmp_path):
    """A target that was planned and preprocessed from a pre-trained encoder alone, by the commands."""
    target = make_target(nnunet_folders, labelled=0, unlabelled=5)
    for file in target.preprocessed.iterdir():  # what its own source left
        if file.suffix == ".json":
            file.unlink()
    encoder = tiny_nnssl.write_published(tmp_path / "encoder")
    assert main(["plan", "-d", "902", "-m", str(encoder)]) == 0
    assert main(["preprocess", "-d", "902", "-c", "3d_fullres", "-np", "1"]) == 0
    return target


def test_plan_takes_it_as_a_source_and_the_first_assft_query_uses_the_features_alone(planned, capsys):
    kept = read_source_model(source_folder(preprocessed_folder(NAME), PLANS, "3d_fullres"))
    assert kept.encoder_only
    flags = ["--strategy", "assft", "--budget", "2", "--epochs", "100"]
    assert main(["init", "-d", "902", "-c", "3d_fullres", "-f", "all", *flags]) == 0
    campaign = Campaign.open(preprocessed_folder(NAME), "all")
    plans = read_plans(NAME, PLANS)
    dataset_json = json.loads((preprocessed_folder(NAME) / "dataset.json").read_text())

    def query(seed: int, trained: bool = False):
        torch.manual_seed(seed)
        network = build_network(plans, "3d_fullres", dataset_json).eval()
        carry_over(network, kept, plans, dataset_json)
        if trained:
            with torch.no_grad():
                network.decoder.stages[0].convs[0].conv.weight.add_(0.01)
        window = SlidingWindow(network, plans, "3d_fullres", dataset_json, torch.device("cpu"))
        said: list[str] = []
        candidates = planned.store.pool_identifiers()
        made = run_query(Workspace.of(campaign), window, candidates, 0, log=said.append)
        return made, said

    first, said = query(seed=1)
    assert any("DKD decides alone" in line for line in said)
    scores = first.scores()
    assert (scores["component_asd"] == 0).all()
    assert np.isfinite(scores["utility"]).all()
    second, _ = query(seed=2)  # another random head changes nothing
    assert second.requested == first.requested
    _, said = query(seed=1, trained=True)
    assert not any("DKD decides alone" in line for line in said)


def test_without_a_spacing_plan_says_what_to_do_and_init_takes_it_for_plans_that_are_there(
    nnunet_folders, tmp_path, capsys
):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2, residual=True)
    file = tiny_nnssl.write_checkpoint(tmp_path / "x.pth", plan=tiny_nnssl.adaptation_plan(spacing=None))
    assert main(["plan", "-d", "902", "-m", str(file), "-plans_name", "Other"]) == 2
    assert "init -m" in capsys.readouterr().err
    assert main(["init", "-d", "902", "-c", "3d_fullres", "-m", str(file), "--strategy", "assft", "--restart"]) == 0
    assert "without a segmentation head" in capsys.readouterr().out
    assert read_source_model(source_folder(target.preprocessed, PLANS, "3d_fullres")).encoder_only
