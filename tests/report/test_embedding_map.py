from __future__ import annotations

import re

import numpy as np
import pytest
from report_campaign import CASES, add_round, make_setting
from tiny_campaign import edit

from nnunet_active.report.embedding_map import embedding_map


@pytest.fixture
def setting(nnunet_folders):
    return make_setting(nnunet_folders, rounds=0, budget=6)


def arrays(setting, name="embedding", seed=0, dimension=5):
    n = len(setting.campaign.pool(CASES))
    return {name: np.random.default_rng(seed).standard_normal((n, dimension))}


def test_the_points_are_the_two_principal_components_of_the_first_query(setting):
    first = arrays(setting)
    add_round(setting, ["case_0", "case_1"], arrays=first)
    add_round(setting, ["case_2"], arrays=arrays(setting, seed=1))
    content = embedding_map(setting.campaign)
    assert content["network"] == "the network that made query 1" and content["dimensions"] == 5
    centred = first["embedding"] - first["embedding"].mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.array([row[2:] for row in content["rows"]])
    assert np.abs(points) == pytest.approx(np.abs(left[:, :2] * sizes[:2]))  # the sign of a component is free
    assert content["explained"] == pytest.approx((sizes**2 / (sizes**2).sum())[:2])
    assert [row[:2] for row in content["rows"]] == list(zip(CASES, [1, 1, 2, None, None, None], strict=True))
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", content["svg"])
    assert {"case_0", "case_1", "case_2", "round 1", "round 2", "not asked for"} <= set(texts)
    assert not {"case_3", "case_4"} & set(texts)


def test_embeddings_by_the_source_network_are_preferred_and_joined_over_the_rounds(setting):
    both = {**arrays(setting), **arrays(setting, "source_embedding", seed=3)}
    add_round(setting, ["case_0"], arrays=both)
    content = embedding_map(setting.campaign)
    assert content["network"] == "the source network"
    values = both["source_embedding"] - both["source_embedding"].mean(axis=0)
    assert sum(content["explained"]) == pytest.approx((np.linalg.svd(values)[1][:2] ** 2).sum() / (values**2).sum())


def test_a_requested_case_that_the_network_never_saw_is_named(setting):
    add_round(setting, ["case_0"], arrays=arrays(setting))
    rounds = setting.campaign.to_json()["rounds"]
    edit(setting.campaign, rounds=[*rounds, {"number": 2, "epoch": 40, "requested": ["new"]}])
    assert embedding_map(setting.campaign)["absent"] == ["new"]


def test_labels_that_nobody_asked_for_have_a_sign_of_their_own(setting):
    add_round(setting, ["case_0"], arrays=arrays(setting))
    setting.campaign.mark_labelled(["case_5"])
    content = embedding_map(setting.campaign)
    assert content["rows"][5][:2] == ("case_5", 0) and "labelled, never asked for" in content["svg"]


@pytest.mark.parametrize(
    "content, words",
    [
        ({}, "does without embeddings"),
        ({"embedding": np.ones((6, 3))}, "are equal"),
        ({"embedding": np.full((6, 3), np.nan)}, "does without embeddings"),
        ({"embedding": np.r_[np.eye(2), np.full((4, 2), np.nan)]}, "of 2 cases; a map needs 3"),
    ],
)
def test_where_there_is_no_map_a_sentence_says_why(setting, content, words):
    add_round(setting, ["case_0"], arrays=content)
    found = embedding_map(setting.campaign)
    assert words in found["sentence"] and "svg" not in found


def test_before_the_first_query_and_with_a_damaged_file_there_is_a_sentence(setting):
    assert "No query" in embedding_map(setting.campaign)["sentence"]
    add_round(setting, ["case_0"])
    (setting.campaign.rounds[0].folder / "embeddings.npz").write_bytes(b"PK\x03\x04 broken")
    assert "does without" in embedding_map(setting.campaign)["sentence"]


def test_embeddings_of_one_number_lie_on_a_line(setting):
    add_round(setting, ["case_0"], arrays=arrays(setting, dimension=1))
    content = embedding_map(setting.campaign)
    assert content["explained"] == pytest.approx([1, 0]) and {row[3] for row in content["rows"]} == {0}
