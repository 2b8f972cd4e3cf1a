from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny_source
import torch
from tiny_target import NAME, PLANS, make_target
from tiny_window import REGIONS, Case

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.models.source_summary import summarise, summary_file, write_summary
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.query import pool_building
from nnunet_active.query.pool_building import build_pool, has_moved, open_cache, source_window
from nnunet_active.strategies.badge import gradient_embedding
from nnunet_active.strategies.base import NEEDS, ScoreStrategy
from nnunet_active.strategies.foreground_random import predicted_classes
from nnunet_active.strategies.registry import available_strategies, get_strategy
from nnunet_active.strategies.stdr import class_weighted_feature
from nnunet_active.strategies.ugtst import entropy_above_first_peak
from nnunet_active.util.errors import EmptyPool, MissingInput
from nnunet_active.util.log import silent
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace

CPU = torch.device("cpu")


class Gap(ScoreStrategy):
    """Somebody's own strategy: most where the network has moved farthest from the source network."""

    name = "gap"
    needs = frozenset({"predictions", "embedding", "prediction_gap"})

    def utility(self, pool, rng):
        return pool.column("kl_source")


class Setting:
    """A campaign, its source network, and a network that has moved away from it."""

    def __init__(self, root) -> None:
        self.target = make_target(root, labelled=2, unlabelled=4)
        self.campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "all"), Settings(epochs=100), log=silent)
        self.store = self.target.store
        self.candidates = self.campaign.pool(self.store.pool_identifiers())
        self.said: list[str] = []
        self.source = tiny_source.source_model()  # what make_target planned with

    def window(self, moved: float = 0.3) -> SlidingWindow:
        plans, description = self.source.plans, self.source.dataset_json
        network = tiny_source.random_network(plans, "3d_fullres", description)
        window = SlidingWindow(network, self.store.plans_manager.plans, "3d_fullres", description, CPU, (0, 1, 2))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(moved * 0.1 * torch.randn(parameter.shape, generator=generator))
        return window

    def build(self, window, strategy, **options):
        return build_pool(
            Workspace.of(self.campaign),
            window,
            get_strategy(strategy, **options) if isinstance(strategy, str) else strategy,
            self.candidates,
            Ranks(),
            self.said.append,
        )[0]

    def write_summary(self, digest=None) -> None:
        rows = np.random.default_rng(0).normal(size=(12, 8))
        digest = digest or weights_digest(self.source.weights)
        write_summary(
            summarise(rows, digest, "3d_fullres"), summary_file(self.target.preprocessed, PLANS, "3d_fullres")
        )


@pytest.fixture
def setting(nnunet_folders):
    return Setting(nnunet_folders)


def frozen_window(setting) -> SlidingWindow:
    return source_window(Workspace.of(setting.campaign).source, setting.window())[0]


@pytest.fixture
def passes(monkeypatch):
    """How many passes each network made, by the network's digest."""
    counts: dict[str, int] = {}
    real = SlidingWindow.stream

    def count(self, *what, **how):
        counts[self.digest] = counts.get(self.digest, 0) + 1
        return real(self, *what, **how)

    monkeypatch.setattr(SlidingWindow, "stream", count)
    return counts


@pytest.mark.parametrize("name", sorted(available_strategies()))
def test_every_strategy_gets_what_it_asks_for_and_nothing_that_costs_more(setting, name):
    setting.write_summary()
    strategy = get_strategy(name)
    words = strategy.needs | strategy.uses
    pool = setting.build(setting.window(), name)
    found = {
        "entropy_histogram": "entropy_histogram" in pool.arrays,
        "class_mean": "class_mean" in pool.arrays,
        "source_embedding": "source_embedding" in pool.arrays,
        "source_summary": pool.source_summary is not None,
        "ensemble": "mutual_information" in pool.scores,
        "density": "density" in pool.scores,
        "prediction_gap": "kl_source" in pool.scores,
    }
    assert {word for word, there in found.items() if there} == words & found.keys()
    assert ("source_mean_entropy" in pool.scores) is ("source_embedding" in words)
    assert set(strategy.columns) <= set(pool.scores.columns)
    if "embedding" in words:
        assert pool.labelled_cases == ("case_0", "case_1") and pool.labelled_embedding().shape == (2, 8)
    assert not any("source" in sentence or "WARNING" in sentence for sentence in setting.said)
    assert words <= NEEDS


@pytest.mark.parametrize(("labels", "first"), [({}, 1), (REGIONS, 0)])
def test_the_pool_says_which_head_is_the_first_class(nnunet_folders, labels, first):
    target = make_target(nnunet_folders, 1, 2, **labels)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "all"), Settings(epochs=100), log=silent)
    window = Case(labels=labels or None).window
    candidates = target.store.pool_identifiers()
    strategy = get_strategy("strata")
    pool, _ = build_pool(Workspace.of(campaign), window, strategy, candidates, Ranks(), silent)
    assert pool.first_class == first and pool.arrays["class_volume"].shape == (2, first + 2)
    shown = pool.arrays["class_volume"][:, first:] > 0
    assert (predicted_classes(pool) == shown).all() and len(strategy.query(pool, 2, np.random.default_rng(0)).picks)


def test_in_round_one_the_source_is_the_network_that_asks_and_costs_no_pass(setting, passes):
    window = setting.window(moved=0)
    pool = setting.build(window, "assft")
    np.testing.assert_array_equal(pool.arrays["source_embedding"], pool.arrays["embedding"])
    np.testing.assert_array_equal(pool.labelled_arrays["source_embedding"], pool.labelled_arrays["embedding"])
    assert pool.scores["source_mean_entropy"].equals(pool.scores["mean_entropy"].rename("source_mean_entropy"))
    assert passes == {window.digest: 6}
    gap = setting.build(window, Gap())
    assert (gap.scores["kl_source"] == 0).all() and passes == {window.digest: 6}


def test_the_source_network_scores_each_case_once_for_all_rounds(setting, passes):
    frozen = frozen_window(setting)
    expected = frozen.score(setting.store.load_image("case_4"), 1.5**3)
    passes.clear()
    window = setting.window()
    first = setting.build(window, "assft")
    assert passes == {window.digest: 6, frozen.digest: 6}
    row = list(first.scores.index).index("case_4")
    np.testing.assert_array_equal(first.arrays["source_embedding"][row], expected.arrays["embedding"])
    assert first.scores["source_mean_entropy"].iloc[row] == expected.scalars["mean_entropy"]
    assert not np.array_equal(first.arrays["source_embedding"], first.arrays["embedding"])
    assert first.labelled_arrays["source_embedding"].shape == (2, 8)
    later = setting.window(moved=0.5)
    second = setting.build(later, "assft", gap="drift")
    assert passes == {window.digest: 6, later.digest: 6, frozen.digest: 6}
    np.testing.assert_array_equal(second.arrays["source_embedding"], first.arrays["source_embedding"])
    again = setting.build(later, "stdr")
    assert "class_mean" in again.arrays and passes[frozen.digest] == 6


def test_the_scores_of_the_source_stay_when_older_networks_make_way(setting, passes):
    for step in range(7):
        setting.build(setting.window(moved=1 + step), "assft")
    frozen = frozen_window(setting)
    folder = open_cache(setting.campaign).folder
    assert len(list(folder.iterdir())) == 5 and len(list((folder / frozen.digest).glob("*.npz"))) == 6
    assert passes[frozen.digest] == 6


def test_the_prediction_gap_is_measured_from_the_source_network(setting):
    window = setting.window()
    pool = setting.build(window, Gap())
    frozen = frozen_window(setting)
    image = setting.store.load_image("case_3")
    p, q = (w.logits(image).double().softmax(0) for w in (frozen, window))
    expected = float((p * (p / q).log()).sum(0).mean())
    assert pool.scores.loc["case_3", "kl_source"] == pytest.approx(expected, rel=1e-4) and expected > 0


def test_badge_stdr_and_ugtst_take_their_full_form(setting):
    window = setting.window()
    logits = window.logits(setting.store.load_image("case_3"))
    with torch.no_grad():  # every class is predicted somewhere
        window.network.decoder.seg_layers[-1].bias.sub_(logits.float().flatten(1).median(1).values)
    assert gradient_embedding(setting.build(window, "badge")).shape == (4, 3 * 8)
    stdr = setting.build(window, "stdr")
    volumes = stdr.arrays["class_volume"]
    assert (volumes > 0).sum(1).min() > 1, "else there is nothing to weight"
    assert not np.allclose(class_weighted_feature(stdr), stdr.embedding())
    ugtst = setting.build(window, "ugtst")
    uncertainty = entropy_above_first_peak(ugtst.arrays["entropy_histogram"])
    assert ((uncertainty > 0) & (uncertainty < 1)).all()
    for name, pool in (("stdr", stdr), ("ugtst", ugtst)):
        notes = get_strategy(name).query(pool, 2, np.random.default_rng(0)).notes
        assert not any("histogram" in note for note in notes)


def test_a_source_summary_is_passed_on_and_one_of_another_network_is_not(setting):
    window = setting.window()
    assert setting.build(window, "aada").source_summary is None
    setting.write_summary()
    pool = setting.build(window, "aada")
    assert pool.source_summary["centroids"].shape == (2, 8)
    for name, options in (("aada", {}), ("stdr", {}), ("assft", {"gap": "source"})):
        strategy = get_strategy(name, **options)
        selection = strategy.query(setting.build(window, name, **options), 2, np.random.default_rng(0))
        assert len(selection.picks) == 2 and not any("summary" in note for note in selection.notes)
    assert not setting.said
    setting.write_summary("0" * 32)
    assert setting.build(window, "aada").source_summary is None
    assert "another network" in setting.said[0] and "goes on without it" in setting.said[0]


def test_without_a_source_network_only_those_go_on_that_can_do_without(setting):
    shutil.rmtree(setting.target.preprocessed / "active" / "source")
    window = setting.window()
    pool = setting.build(window, "stdr")
    assert "source_embedding" not in pool.arrays and "No source network was found" in setting.said[0]
    with pytest.raises(MissingInput, match="No source network"):
        setting.build(window, Gap())


def test_a_case_that_the_source_cannot_score_is_set_aside(setting, monkeypatch):
    window = setting.window()
    frozen = frozen_window(setting)
    real = SlidingWindow.begin_score

    def begin_score(self, image, *args, **how):
        if self.digest == frozen.digest and np.array_equal(image, setting.store.load_image("case_3")):
            raise ValueError("the network's output holds NaN or infinite values")
        return real(self, image, *args, **how)

    monkeypatch.setattr(SlidingWindow, "begin_score", begin_score)
    pool = setting.build(window, "assft")
    assert pool.cases == ("case_2", "case_4", "case_5") and "case_3" in setting.said[0]
    assert {len(values) for values in pool.arrays.values()} == {3}


def test_an_ensemble_compares_its_mean_with_the_source(setting):
    members = [setting.window(), setting.window(moved=0.6)]
    pool = setting.build(EnsembleWindow(members), Gap())
    alone = setting.build(members[0], Gap())
    assert (pool.scores["kl_source"] > 0).all()
    assert not np.allclose(pool.scores["kl_source"], alone.scores["kl_source"])
    drift = setting.build(EnsembleWindow(members), "assft", gap="drift")
    assert drift.arrays["embedding"].shape == drift.arrays["source_embedding"].shape
    bald = setting.build(EnsembleWindow(members), "bald")
    assert (bald.scores["mutual_information"] > 0).all()


def test_the_source_network_leaves_the_current_one_and_the_random_numbers_alone(setting):
    window = setting.window()
    before = {name: value.clone() for name, value in window.network.state_dict().items()}
    window.network.train()
    torch.manual_seed(3)
    frozen, _ = source_window(setting.source, window)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(value, before[name]) for name, value in window.network.state_dict().items())
    assert window.network.training and not frozen.network.training
    assert weights_digest(frozen.network.state_dict()) == weights_digest(setting.source.weights)


def test_an_untrained_head_is_told_until_the_network_has_been_trained(setting):
    """A source without a class in common: its body is carried over, its heads are not."""
    pool = setting.build(setting.window(moved=0), "assft")
    assert pool.head_trained and pool.source_head_trained
    file = setting.target.preprocessed / "active" / "source" / f"{PLANS}__3d_fullres" / "dataset.json"
    labels = json.loads(file.read_text())
    labels["labels"] = {"background": 0, "liver": 1}
    file.write_text(json.dumps(labels))
    source = Workspace.of(setting.campaign).source
    for moved, trained in ((0, False), (0.3, True)):
        window = setting.window(moved)
        with torch.no_grad():  # as initialised anew: the heads alone do not make a trained network
            window.network.decoder.seg_layers[-1].weight.add_(0.1)
        frozen, report = source_window(source, window)
        assert not report.heads.trained and has_moved(window, frozen, report) is trained
        pool = setting.build(window, "assft")
        assert (pool.head_trained, pool.source_head_trained) == (trained, False)
        # these read no scores of the source, but what they read means as little
        others = ["foreground_random", "strata", "entropy", "mmacts"]
        assert [setting.build(window, name).head_trained for name in others] == [trained] * 4
        entropy = pool.scores["source_mean_entropy"].to_numpy()
        np.testing.assert_allclose(entropy, np.log(3), rtol=1e-5)  # a head of zeros knows nothing


def test_where_nobody_can_be_scored_the_pool_is_empty(setting):
    for file in setting.store.pool_folder.glob("*.b2nd"):
        file.write_bytes(b"damaged")
    with pytest.raises(EmptyPool):
        setting.build(setting.window(), "entropy")
    assert len(setting.said) == 4


def test_the_cache_is_shared_by_the_folds_of_a_configuration(setting):
    other = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(epochs=100), log=silent)
    assert open_cache(other).folder == open_cache(setting.campaign).folder
    assert pool_building.open_cache(other).folder.name == f"{PLANS}__3d_fullres"


def test_a_label_that_nobody_asked_for_stays_in_the_pool_whose_density_counts(setting):
    window = setting.window()
    before = setting.build(window, "mmacts").scores["density"]
    setting.campaign.mark_labelled([setting.candidates[0]])
    setting.candidates = setting.candidates[1:]
    after = setting.build(window, "mmacts").scores["density"]
    assert after.equals(before[after.index]) and len(after) == len(before) - 1
