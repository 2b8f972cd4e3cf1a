from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny_source
import torch
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign.campaign_start import set_aside, start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.pool_building import open_cache
from nnunet_active.query.question import Question
from nnunet_active.query.selector import propose, record, run_query
from nnunet_active.strategies.registry import available_strategies
from nnunet_active.util.errors import ActiveError, EmptyPool
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace

CHANNELS = ["T1", "FLAIR", "T1ce"]


@pytest.fixture
def setting(nnunet_folders):
    target = make_target(nnunet_folders)
    source = tiny_source.source_model()
    network = tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json)
    return target, SlidingWindow(network, source.plans, "3d_fullres", source.dataset_json, torch.device("cpu"))


def start(**settings):
    return start_campaign(
        Place.of(NAME, "3d_fullres", PLANS, "all"),
        Settings(**{"strategy": "mmacts", "budget": 2, "epochs": 100, **settings}),
        log=silent,
    )


def query(campaign, target, window, epoch=0):
    candidates = campaign.pool(target.store.labelled_identifiers())
    return run_query(Workspace.of(campaign), window, candidates, epoch, log=silent)


def test_a_round_holds_every_component_the_embeddings_the_utilities_and_a_worklist(setting):
    target, window = setting
    made = query(start(), target, window)
    assert {file.name for file in made.folder.iterdir()} == {
        "scores.csv",
        "embeddings.npz",
        "selection.json",
        "worklist.csv",
    }
    scores = made.scores()
    assert list(scores["component_u"]) == pytest.approx(list(scores["mean_entropy"]))
    assert scores.index[0] == made.requested[0]
    with np.load(made.folder / "embeddings.npz") as arrays:
        assert arrays["embedding"].shape == (6, 8)
    assert len(made.selection()["utilities"][0]) == 6
    worklist = pd.read_csv(made.folder / "worklist.csv")
    assert worklist.loc[0, "open_first"] in CHANNELS


def test_the_density_looks_at_the_whole_training_pool_also_after_cases_were_taken(setting):
    target, window = setting
    campaign = start()
    first = query(campaign, target, window)
    campaign.mark_labelled(first.requested)
    second = query(campaign, target, window, epoch=40)
    before, after = first.scores()["density"], second.scores()["density"]
    pd.testing.assert_series_equal(before[after.index].sort_index(), after.sort_index())


@pytest.mark.parametrize("name", sorted(available_strategies()))
def test_every_registered_strategy_queries_by_name_and_never_reads_a_withheld_label(setting, name):
    target, window = setting
    campaign = start(strategy=name)
    first = query(campaign, target, window)
    campaign.mark_labelled(first.requested)
    second = query(campaign, target, window, epoch=40)
    assert len({*first.requested, *second.requested}) == 2
    json.dumps(second.selection(), allow_nan=False)

    shutil.rmtree(open_cache(campaign).folder, ignore_errors=True)  # else nothing would be computed again
    for file in target.store.folder.glob("*_seg.b2nd"):
        file.write_bytes(b"poison")
    for file in (target.raw / "labelsTr").iterdir():
        file.write_bytes(b"poison")
    set_aside(campaign.folder, log=silent)
    again = query(start(strategy=name), target, window)
    assert again.requested == first.requested


def test_bald_asks_mirrored_passes(setting):
    target, window = setting
    made = query(start(strategy="bald"), target, window)
    information = made.scores()["mutual_information"]
    assert (information >= 0).all()
    assert information.idxmax() == made.requested[0]
    assert information[made.requested[0]] > 0


def test_an_empty_pool_is_said_as_such(setting):
    _, window = setting
    with pytest.raises(EmptyPool):
        run_query(Workspace.of(start()), window, [], 0, log=silent)


# ---- proposing and recording ------------------------------------------------------------------------------------------------


def ask(campaign, target, window, log=silent, **how):
    candidates = campaign.pool(target.store.labelled_identifiers())
    return propose(Workspace.of(campaign), window, candidates, Question(**how), log=log)


def content_of(folder):
    """All files of a round, but for the time that it took."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".npz"}
    files["selection.json"] = {**json.loads(files["selection.json"]), "seconds": 0}
    with np.load(folder / "embeddings.npz") as arrays:
        return {**files, **{name: arrays[name].tobytes() for name in arrays.files}}


def test_the_archive_of_a_round_holds_each_cases_own_embedding(setting):
    target, window = setting
    made = query(start(strategy="entropy"), target, window)
    with np.load(made.folder / "embeddings.npz") as arrays:
        cases, embeddings = arrays["cases"].tolist(), arrays["embedding"]
    assert cases == list(made.scores().index) != sorted(cases), "the picks come first"
    for case, embedding in zip(cases, embeddings, strict=True):
        own = window.score(target.store.load_image(case), 1.0).arrays["embedding"]
        np.testing.assert_array_equal(embedding, own, err_msg=case)


def test_a_proposal_changes_nothing_but_the_cached_scores_and_becomes_the_same_round(setting):
    target, window = setting
    campaign = start(strategy="assft", query_size=2)
    folder = target.preprocessed
    cache = open_cache(campaign).folder
    files = {path for path in folder.rglob("*") if cache not in (path, *path.parents) and path != cache.parent}
    proposal = ask(campaign, target, window)
    after = {path for path in folder.rglob("*") if cache not in (path, *path.parents) and path != cache.parent}
    assert files == after and campaign.rounds == []
    assert len(proposal.picks) == 2 and list(proposal.table.index[:2]) == list(proposal.picks)
    made = record(campaign, proposal, 0, "select", log=silent)
    assert made.requested == proposal.picks and made.made_by == "select"
    before = content_of(made.folder)
    set_aside(campaign.folder, log=silent)
    again = query(start(strategy="assft", query_size=2), target, window)
    after = content_of(again.folder)
    after["selection.json"]["made_by"] = "select"
    assert after == before


def test_a_round_is_the_same_bits_whether_its_scores_were_cached_or_not(setting):
    target, window = setting
    for name in ("mmacts", "assft", "badge", "bald", "stdr"):
        rounds = []
        for cached in (False, True):
            campaign = start(strategy=name)
            if not cached:
                shutil.rmtree(open_cache(campaign).folder, ignore_errors=True)
            rounds.append(content_of(query(campaign, target, window).folder))
            set_aside(campaign.folder, log=silent)
        assert rounds[0] == rounds[1], name


def test_a_repeated_question_makes_no_pass_at_all(setting, monkeypatch):
    target, window = setting
    campaign = start(strategy="assft")
    first = ask(campaign, target, window)

    def never(self, image):
        raise AssertionError("a forward pass")

    monkeypatch.setattr(SlidingWindow, "logits", never)
    again = ask(campaign, target, window)
    assert again.picks == first.picks and again.table.equals(first.table) and again.worklist.equals(first.worklist)


def test_a_proposal_that_was_overtaken_is_refused(setting):
    target, window = setting
    campaign = start()
    old = ask(campaign, target, window)
    query(campaign, target, window)
    with pytest.raises(ActiveError, match="ask again"):
        record(campaign, old, log=silent)


def test_size_strategy_options_and_seed_can_be_given_for_one_question(setting):
    target, window = setting
    campaign = start(strategy="entropy")
    assert len(ask(campaign, target, window).picks) == 1
    assert len(ask(campaign, target, window, size=4).picks) == 4
    assert len(ask(campaign, target, window, size=100).picks) == 6
    other = ask(campaign, target, window, strategy="assft", strategy_options={"lambda_": 0.5}, seed=3)
    assert other.details["strategy"] == "assft" and other.details["strategy_options"] == {"lambda_": 0.5}
    assert other.details["seed"] == 3 and campaign.settings.strategy == "entropy"
    draws = {ask(campaign, target, window, strategy="random", seed=seed).picks for seed in range(12)}
    assert len(draws) > 1


def test_cases_that_are_excluded_are_neither_scored_nor_picked(setting):
    target, window = setting
    campaign = start(strategy="entropy")
    best = ask(campaign, target, window).picks[0]
    proposal = ask(campaign, target, window, size=6, exclude=[best])
    assert best not in proposal.picks and len(proposal.picks) == 5 and best not in proposal.table.index
    with pytest.raises(EmptyPool):
        ask(campaign, target, window, exclude=target.store.identifiers())


def test_a_query_asks_for_one_scan_of_a_patient_while_there_are_patients_that_nobody_labelled(setting):
    target, window = setting
    groups = {"table": {f"case_{i}": f"p{i // 2}" for i in range(6)}}
    campaign = start(strategy="entropy", budget=6, query_size=2, groups=groups)
    patient = campaign.settings.patients.of
    first = query(campaign, target, window).requested
    assert len({patient(case) for case in first}) == 2
    (fresh,) = {"p0", "p1", "p2"} - {patient(case) for case in first}
    assert patient(ask(campaign, target, window, size=1).picks[0]) == fresh
    assert (
        len(ask(campaign, target, window, size=4).picks) == 4
    )  # too few patients are no reason to ask for fewer cases
    (made,) = campaign.rounds
    candidates = made.scores().index
    assert sorted(map(patient, candidates)) == ["p0", "p1", "p2"] and made.selection()["candidates"] == 3
    assert set(made.selection()["utilities"][0]) == set(candidates)
    with np.load(made.folder / "embeddings.npz") as arrays:
        assert arrays["cases"].tolist() == list(candidates) and len(arrays["embedding"]) == 3
    must = next(case for case in target.store.identifiers() if patient(case) == fresh)
    with_must = ask(campaign, target, window, size=2, must_include=[must]).picks
    assert with_must[0] == must and len(with_must) == 2


@pytest.mark.parametrize("name", ["entropy", "coreset", "assft", "random", "lamda", "badge", "per_cluster"])
def test_cases_that_must_be_included_come_first_and_the_rest_is_chosen_beside_them(setting, name):
    target, window = setting
    campaign = start(strategy=name, budget=6, epochs=300)
    must = ["case_4", "case_1"]
    proposal = ask(campaign, target, window, size=4, must_include=must)
    assert list(proposal.picks[:2]) == must and len(set(proposal.picks)) == 4
    utilities = proposal.selection.utilities
    assert utilities.shape == (4, 6)
    for step in range(4):
        assert set(utilities.columns[utilities.iloc[step].isna()]) == set(proposal.picks[:step])
    assert "Included by the user: case_4, case_1." in proposal.selection.notes
    made = record(campaign, proposal, log=silent)
    json.dumps(made.selection(), allow_nan=False)
    assert made.selection()["must_include"] == must


@pytest.mark.parametrize(("name", "drawn"), [("random", True), ("foreground_random", True), ("entropy", False)])
def test_a_round_says_whether_it_was_drawn_also_where_the_user_included_cases(setting, name, drawn):
    """With these, the probability of the draw is not known."""
    target, window = setting
    campaign = start(strategy=name, budget=6, epochs=300)
    proposals = [ask(campaign, target, window, size=3, must_include=must) for must in ([], ["case_4"])]
    assert [one.details["drawn"] for one in proposals] == [drawn, drawn]
    assert ["component_probability" in one.table for one in proposals] == [drawn, False]
    assert [("probability" in one.worklist, "utility" in one.worklist) for one in proposals] == (
        [(True, False), (False, False)] if drawn else [(False, True)] * 2
    )
    said: list[str] = []
    assert record(campaign, proposals[1], log=said.append).selection()["drawn"] is drawn
    assert all((": drawn" in line, ": utility" in line) == (drawn, not drawn) for line in said[1:4])


@pytest.mark.parametrize("strategy", ["random", "entropy"])
def test_an_image_that_cannot_be_read_is_named_and_replaced_whether_the_strategy_reads_it_or_not(setting, strategy):
    target, window = setting
    campaign, said = start(strategy=strategy, budget=6, epochs=300), []
    first = ask(campaign, target, window, size=2).picks[0]
    file = target.store.image_file(first)
    file.write_bytes(b"damaged")
    found = ask(campaign, target, window, said.append, size=5)
    assert first not in found.picks and len(found.picks) == 5 and list(found.details["set_aside"]) == [first]
    assert len(said) == 1 and f"WARNING: {first} could not be scored" in said[0]
    made = record(campaign, found, log=silent)
    assert first not in made.scores().index and len(made.requested) == 5


@pytest.mark.parametrize("name", ["badge", "clasp_pe", "strata"])
def test_a_strategy_whose_picks_are_drawn_is_recorded_as_such_without_a_probability_too(setting, name):
    target, window = setting
    found = ask(start(strategy=name, budget=6, epochs=300), target, window, size=2)
    assert found.details["drawn"] and "utility" not in found.worklist


def test_the_strategy_sees_included_cases_as_labelled(setting):
    """The farthest-first rule then starts from them, as it does from labelled cases."""
    target, window = setting
    campaign = start(strategy="coreset", budget=6, epochs=300)
    proposal = ask(campaign, target, window, size=2, must_include=["case_2"])
    embedding = dict(zip(proposal.cases, proposal.arrays["embedding"], strict=True))
    distance = {case: np.linalg.norm(z - embedding["case_2"]) for case, z in embedding.items()}
    assert proposal.picks == ("case_2", max(distance, key=distance.get))


def test_more_included_cases_than_asked_for_are_the_whole_query(setting):
    target, window = setting
    campaign = start(strategy="entropy")
    must = ["case_5", "case_0", "case_3"]
    assert list(ask(campaign, target, window, size=1, must_include=must).picks) == must
    everybody = target.store.identifiers()
    assert list(ask(campaign, target, window, must_include=everybody).picks) == everybody


def test_a_case_that_cannot_be_included_is_named(setting):
    target, window = setting
    campaign = start(strategy="entropy")
    for cases, how, said in (
        (["nobody"], {}, "nobody cannot be included"),
        (["case_1"], {"exclude": ["case_1"]}, "both included and excluded"),
    ):
        with pytest.raises(ActiveError, match=said):
            ask(campaign, target, window, must_include=cases, **how)
    (target.store.folder / "case_1.b2nd").write_bytes(b"damaged")
    with pytest.raises(ActiveError, match="case_1 cannot be included: case_1 could not be scored"):
        ask(campaign, target, window, must_include=["case_1"])


def test_no_more_than_the_case_at_work_is_held_when_the_next_one_is_read(setting, monkeypatch):
    """Peak memory is that of the largest case and of the image of the next one, which is read ahead."""
    import gc
    import weakref

    target, window = setting
    real, alive = type(target.store).load_image, []

    def load(self, case):
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= 1, "an earlier image is still held"
        image = real(self, case)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(type(target.store), "load_image", load)
    query(start(strategy="assft", strategy_options={"gap": "drift"}), target, window)
    assert len(alive) >= 7


def test_a_channel_to_open_first_that_is_known_from_before_is_decided_as_it_was(setting):
    target, window = setting
    campaign = start(strategy="entropy")
    first = ask(campaign, target, window, size=6).details["dominant_modality"]
    again = ask(campaign, target, window, size=6).details["dominant_modality"]
    assert first == again and not all(one["decided"] for one in first.values())
