"""Whole trainings with the unlabelled pool, in 2-D and 3-D, with labels, regions and an ignore label."""

from __future__ import annotations

import itertools
import multiprocessing

import pytest
import torch
from tiny_target import make_target
from tiny_training import (
    assert_equal_weights,
    campaign_of,
    checkpoint_of,
    fresh_target,
    run_with_kill,
    start,
    trainer_of,
)
from torch.func import functional_call

from nnunet_active.campaign.fine_tuning import default_recipe, recipe
from nnunet_active.data.ignore_label import add_ignore_label
from nnunet_active.training.fine_tuned import FineTunedMixin
from nnunet_active.training.mixed_training import DECAY, STATE
from nnunet_active.training.weights import copy_weights

MIXED = {"fine_tuning": {"unlabelled": "mix"}}
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
IGNORING = {"labels": {"background": 0, "oedema": 1, "core": 2, "ignore": 3}}
BOTH = {**REGIONS, "labels": {**REGIONS["labels"], "ignore": 3}}


def drawn_from(trainer) -> list[list[str]]:
    """By epoch, the cases that the training may draw from as unlabelled."""
    seen, original = [], trainer.on_train_epoch_start

    def look() -> None:
        loader = trainer.dataloader_unlabelled
        seen.append([] if loader is None else list(loader.data_loader._data.identifiers))
        original()

    trainer.on_train_epoch_start = look
    return seen


@pytest.mark.parametrize(
    ("name", "how"),
    [("2d", {}), ("3d_fullres", REGIONS), ("3d_fullres", IGNORING), ("2d", BOTH)],
    ids=["2d", "3d regions", "3d ignore", "2d both"],
)
def test_a_training_learns_from_the_pool_which_shrinks_with_every_query(nnunet_folders, capsys, name, how):
    target = make_target(nnunet_folders, labelled=5, name=name, **how)
    start(target, **MIXED, epochs=2)
    trainer = trainer_of(target)
    seen, weights = drawn_from(trainer), []
    original = trainer.train_step

    def step(batch):
        weights.append(trainer.mixing.weight)
        return original(batch)

    trainer.train_step = step
    trainer.run_training()
    campaign = campaign_of(target)
    first, second = campaign.requested()
    pool = set(target.store.identifiers()) - set(campaign.val)
    assert seen == [sorted(pool - {first}), sorted(pool - {first, second})] and seen[1]
    assert weights == pytest.approx([0.5 * share / 0.8 for share in (0, 0.25, 0.5, 0.75)])
    checkpoint = checkpoint_of(target)
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint["network_weights"].values())
    mean, source = checkpoint["nnunet_active"][STATE]["mean"], trainer.adaptation.source
    assert any(not torch.equal(mean[key], source[key]) for key in source)
    said = capsys.readouterr().out
    assert said.count("about three to four passes") == 1 and "mixed with labelled ones" in said


def test_a_training_without_the_pool_is_the_plain_one_to_the_bit_and_says_so_once(tmp_path, monkeypatch, capsys):
    ends = {}
    for name, settings in {"plain": {}, "mix": MIXED}.items():
        target = fresh_target(tmp_path / name, monkeypatch, labelled=2)
        start(target, fold="all", budget=2, query_size=2, one_off=True, epochs=2, strategy="random", **settings)
        trainer_of(target, fold="all").run_training()
        folder = next(target.results.rglob("fold_all"))
        ends[name] = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert_equal_weights(ends["plain"]["network_weights"], ends["mix"]["network_weights"])
    assert STATE not in ends["plain"]["nnunet_active"]
    assert capsys.readouterr().out.count("no unlabelled case is there") == 1


def test_the_first_step_is_the_plain_one_and_later_ones_are_not(tmp_path, monkeypatch):
    ends = {}
    for name, settings, steps in [("plain", {}, 1), ("mix", MIXED, 1), ("plain 2", {}, 2), ("mix 2", MIXED, 2)]:
        target = fresh_target(tmp_path / name, monkeypatch, labelled=4)
        start(target, budget=1, epochs=1, iterations=steps, strategy="random", **settings)
        trainer = trainer_of(target)
        losses, original = [], trainer.train_step
        trainer.train_step = lambda batch, o=original, found=losses: (found.append(o(batch)), found[-1])[1]
        trainer.run_training()
        ends[name] = checkpoint_of(target)["network_weights"], losses
    assert_equal_weights(ends["plain"][0], ends["mix"][0])
    assert ends["plain"][1] == ends["mix"][1]
    one, other = ends["plain 2"][0], ends["mix 2"][0]
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("how", [{}, REGIONS], ids=["labels", "regions"])
def test_both_teachers_begin_as_the_source_and_the_mean_follows_by_a_hundredth(nnunet_folders, how):
    target = make_target(nnunet_folders, labelled=4, **how)
    start(target, **MIXED, budget=1, epochs=1)
    trainer = trainer_of(target)
    trainer.initialize()
    source, mixing = copy_weights(trainer.network), trainer.mixing
    x = torch.randn(2, 3, 16, 16, 16)
    trainer.network.eval()
    with torch.no_grad():
        logits = trainer.network(x)[0]
    expected = logits.sigmoid() if how else logits.softmax(1)
    trainer.network.train()
    torch.testing.assert_close(mixing.teach(x), expected)
    assert trainer.network.training and not mixing.teach(x).requires_grad
    assert all(parameter.requires_grad for parameter in trainer.network.parameters())
    first = next(iter(trainer.network.parameters()))
    with torch.no_grad():
        first += 1.0
    mixing.follow()
    name = next(iter(source))
    moved = {**source, name: source[name] + (1 - DECAY)}
    torch.testing.assert_close(mixing.state()[STATE]["mean"][name], moved[name])
    with torch.no_grad():
        logits = functional_call(trainer.network.eval(), moved, (x,))[0]
    after = logits.sigmoid() if how else logits.softmax(1)
    torch.testing.assert_close(mixing.teach(x), (expected + after) / 2)
    mixing.restart()
    torch.testing.assert_close(mixing.teach(x), expected)
    assert_equal_weights(trainer.adaptation.source, mixing.state()[STATE]["mean"])


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"fine_tuning": {**recipe("three_quarters"), "unlabelled": "mix", "ema_epochs": 2.0}}, [0, 2]),
        ({**MIXED, "restart": "source"}, [1]),
    ],
    ids=["three quarters", "restart"],
)
def test_a_killed_run_ends_like_one_that_was_not(tmp_path, monkeypatch, settings, epochs):
    ends = []
    for kill in (None, *epochs):
        target = fresh_target(tmp_path / str(kill), monkeypatch, labelled=6)
        start(target, **settings)
        run_with_kill(target, kill)
        ends.append((campaign_of(target).requested(), checkpoint_of(target)))
    for requested, checkpoint in ends[1:]:
        assert requested == ends[0][0]
        assert_equal_weights(checkpoint["network_weights"], ends[0][1]["network_weights"])
        own, others = checkpoint["nnunet_active"][STATE], ends[0][1]["nnunet_active"][STATE]
        assert_equal_weights(own["mean"], others["mean"])
        assert torch.equal(own["thresholds"], others["thresholds"])


def test_with_a_restart_the_mean_begins_again_and_so_does_the_weight(nnunet_folders):
    target = make_target(nnunet_folders, labelled=5)
    start(target, **MIXED, restart="source", stride=2, epochs=4, iterations=1)
    trainer = trainer_of(target)
    begun, weights, original = [], [], trainer.on_train_epoch_start

    def look() -> None:
        original()
        mean = trainer.mixing.state()[STATE]["mean"]
        begun.append(all(torch.equal(mean[key], value) for key, value in trainer.adaptation.source.items()))
        weights.append(trainer.mixing.weight)

    trainer.on_train_epoch_start = look
    trainer.run_training()
    assert begun == [True, False, True, False]
    assert weights == pytest.approx([0, 0.5 * 0.5 / 0.8] * 2)


def test_pseudo_labelled_cases_are_trained_on_and_still_drawn_from_as_unlabelled(nnunet_folders):
    target = make_target(nnunet_folders, labelled=5)
    everyone = {"confident_fraction": 1.0, "nearer_fraction": 1.0, "allow_empty": True}
    settings = {"stride": 2, "epochs": 4, "pseudo_labels": everyone, "fine_tuning": recipe(default_recipe())}
    start(target, restart="source", **settings)
    trainer = trainer_of(target, "nnUNetTrainerASSFT")
    seen, pseudo, original = drawn_from(trainer), [], trainer.on_train_epoch_start

    def look() -> None:
        pseudo.append(trainer.pseudo.cases)
        original()

    trainer.on_train_epoch_start = look
    trainer.run_training()
    assert any(pseudo) and all(set(one) <= set(drawn) for one, drawn in zip(pseudo, seen, strict=True))
    weights = checkpoint_of(target, "nnUNetTrainerASSFT")["network_weights"]
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_where_slices_are_asked_for_the_images_of_labelled_cases_are_drawn_from_as_well(nnunet_folders):
    target = make_target(nnunet_folders, labelled=4, name="2d")
    add_ignore_label([target.raw / "dataset.json", target.preprocessed / "dataset.json"])
    slices = {"unit": "slice", "budget": 4, "query_size": 2, "per_case": 1, "strategy": "random"}
    start(target, **MIXED, **slices, epochs=2)
    trainer = trainer_of(target)
    seen = drawn_from(trainer)
    trainer.run_training()
    campaign = campaign_of(target)
    assert seen == [sorted(set(target.store.identifiers()) - set(campaign.val))] * 2
    assert campaign.labelled()


def test_networks_of_cross_fitting_are_trained_plainly(tmp_path, monkeypatch):
    rows = []
    for unlabelled in ("", "mix"):
        target = fresh_target(tmp_path / f"with {unlabelled}", monkeypatch, labelled=6)
        fine_tuning = {**recipe("guarded"), "unlabelled": unlabelled, "cross_fit": True}
        start(target, budget=2, query_size=2, one_off=True, strategy="random", epochs=2, fine_tuning=fine_tuning)
        trainer = trainer_of(target)
        trainer.run_training()
        table = trainer.choice.comparison.table
        rows.append(
            table[table["kind"] == "cross_fit"].drop(columns=["weights"], errors="ignore").reset_index(drop=True)
        )
    assert len(rows[0]) and rows[0].equals(rows[1])


@pytest.mark.parametrize(("strategy", "fitted"), [("random", False), ("entropy", True)])
def test_cross_fitting_is_left_out_where_unlabelled_cases_are_learned_from_and_the_others_are_drawn_from_them(
    nnunet_folders, capsys, strategy, fitted
):
    target = make_target(nnunet_folders, labelled=6)
    once = {"budget": 3, "query_size": 3, "one_off": True, "strategy": strategy, "epochs": 1}
    start(target, **once, fine_tuning=recipe("guarded:unlabelled=mix"))  # two cases are held out
    trainer = trainer_of(target)
    trainer.run_training()
    said = capsys.readouterr().out
    assert ("Cross-fit: none, networks that learn from labelled cases alone say nothing of one that" in said) != fitted
    assert ("cross_fit" in set(trainer.choice.comparison.table["kind"])) == fitted and trainer.mixing.cases
    assert ("From here on, alpha is 0.75." in said) != fitted


def test_with_background_workers_nobody_stays_behind(nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    target = make_target(nnunet_folders, labelled=5)
    start(target, **MIXED, epochs=2)
    trainer = trainer_of(target)
    trainer.run_training()
    assert not [process for process in multiprocessing.active_children() if process.is_alive()]
    assert all(bool(tensor.isfinite().all()) for tensor in copy_weights(trainer.network).values())


def test_a_source_that_does_not_know_a_class_teaches_nothing(nnunet_folders, capsys):
    labels = {"background": 0, "oedema": 1, "core": 2}
    target = make_target(
        nnunet_folders, labelled=3, labels=labels, source_labels={"background": 0, "oedema": 1, "necrosis": 2}
    )
    start(target, **MIXED, budget=1, epochs=1)
    trainer = trainer_of(target)
    trainer.run_training()
    assert trainer.mixing is None and "cannot teach them" in capsys.readouterr().out


def in_training(target):
    """A trainer before a step of its second half of an epoch, so that mixed samples count."""
    start(target, **MIXED, budget=1, epochs=1)
    trainer = trainer_of(target)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.mixing._step = 1
    other = next(trainer.dataloader_unlabelled)
    trainer.dataloader_unlabelled = itertools.repeat(other)
    return trainer, next(trainer.dataloader_train)


def gradients(trainer) -> dict[str, torch.Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.network.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("how", [{}, {"name": "2d"}, REGIONS], ids=["labels", "2d", "regions"])
def test_a_step_follows_the_gradient_of_the_whole_formula_and_returns_its_loss(nnunet_folders, how):
    trainer, batch = in_training(make_target(nnunet_folders, labelled=4, **how))
    mixing, network = trainer.mixing, trainer.network
    torch.manual_seed(1)
    data, target = batch["data"], batch["target"]
    loss = trainer.loss(network(data), target)
    for image, wanted in mixing._mixed(data, target):
        loss = loss + 0.5 * 0.5 / 0.8 * mixing._loss(network(image), wanted)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
    expected, seen = gradients(trainer), []
    trainer.optimizer.register_step_pre_hook(lambda *_: seen.append(gradients(trainer)))
    torch.manual_seed(1)
    result = trainer.train_step(batch)
    assert result["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert len(seen) == 1 and seen[0].keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(seen[0][name], gradient, rtol=1e-3, atol=1e-5)
    assert "zero_grad" not in vars(trainer.optimizer)
    trainer.session.end()


def test_a_step_holds_no_more_activations_at_a_time_than_a_plain_one(nnunet_folders):
    trainer, batch = in_training(make_target(nnunet_folders, labelled=4, name="3d_fullres"))
    peaks = []
    for step in (super(FineTunedMixin, trainer).train_step, trainer.train_step):
        held, most = [0], [0]

        class Kept:
            def __init__(self, tensor, held=held, most=most) -> None:
                self.tensor, self.held = tensor, held
                self.size = tensor.numel() * tensor.element_size()
                held[0] += self.size
                most[0] = max(most[0], held[0])

            def __del__(self) -> None:
                self.held[0] -= self.size

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            step(batch)
        assert held[0] == 0
        peaks.append(most[0])
    assert peaks[0] > 0 and peaks[1] < 1.1 * peaks[0]
    trainer.session.end()


def test_a_trainer_that_does_not_clear_the_gradients_is_told_so(nnunet_folders):
    trainer, batch = in_training(make_target(nnunet_folders, labelled=4))
    with pytest.raises(RuntimeError, match="cleared the gradients 0 times"):
        trainer.mixing.step(batch, lambda _: {"loss": 0.0})
    trainer.session.end()


@pytest.mark.parametrize("how", [{}, REGIONS], ids=["labels", "regions"])
def test_in_mixed_precision_the_gradients_of_mixed_samples_are_scaled_like_the_trainers_own(nnunet_folders, how):
    trainer, batch = in_training(make_target(nnunet_folders, labelled=4, **how))
    found = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        trainer.grad_scaler = scaler
        trainer.optimizer.zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            value = trainer.mixing.learn(batch["data"], batch["target"])
        found.append((float(value), gradients(trainer)))
    (plain, by_plain), (scaled, by_scaled) = found
    assert plain == pytest.approx(scaled, rel=1e-3)
    last = len(trainer.network.decoder.seg_layers) - 1
    for name, parameter in trainer.network.named_parameters():
        if not name.startswith("decoder.seg_layers.0") or last == 0:  # the coarsest output weighs nothing
            assert parameter.grad is not None, name
    assert any(bool(gradient.any()) for gradient in by_plain.values())
    for name, gradient in by_plain.items():
        torch.testing.assert_close(by_scaled[name] / 2**10, gradient, rtol=0.1, atol=0.02)
    trainer.session.end()
