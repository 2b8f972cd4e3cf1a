from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.query.pool_scoring import PoolScores
from nnunet_active.query.query_tables import open_first_words, score_table, stands_out, worklist_table
from nnunet_active.scoring.modality import ModalityElection
from nnunet_active.strategies import ScoredPool, get_strategy

SCORES = pd.DataFrame(
    {"mean_entropy": [0.1, 0.4, 0.3], "foreground_mm3": [10.0, 20.0, 30.0]},
    index=pd.Index(["a", "b", "c"], name="case"),
)


@pytest.fixture
def selection():
    return get_strategy("entropy").query(ScoredPool(SCORES), 2, np.random.default_rng(0))


def test_every_candidate_has_a_row_the_picks_first_in_their_order_and_a_column_for_each_foreground_class(selection):
    volumes = np.array([[9, 1], [8, 2], [7, 3]])
    table = score_table(PoolScores(SCORES, {"class_volume": volumes}, {}), selection, ["background", "tumour"])
    assert list(table.index) == ["b", "c", "a"]
    assert table["picked"].tolist()[:2] == [1, 2] and np.isnan(table.loc["a", "picked"])
    assert table["utility"].tolist() == table["mean_entropy"].tolist()
    assert table["voxels_tumour"].to_dict() == {"a": 1, "b": 2, "c": 3} and "voxels_background" not in table


def test_the_annotator_opens_the_elected_channel_first_and_sees_what_each_channel_alone_is_worth(selection):
    table = score_table(PoolScores(SCORES, {}, {}), selection, ["background", "tumour"])
    elections = {"b": ModalityElection(1, (0.2, 0.7), True), "c": ModalityElection(0, (0.5, 0.1), True)}
    worklist = worklist_table(selection, table, elections, ["T1", "FLAIR"], {})
    assert worklist[["rank", "case", "open_first"]].values.tolist() == [[1, "b", "FLAIR"], [2, "c", "T1"]]
    assert worklist["dice_FLAIR_alone"].tolist() == [0.7, 0.1]
    assert worklist["foreground_mm3"].tolist() == [20.0, 30.0]


def test_the_worklist_of_a_draw_shows_the_probability_in_place_of_a_utility_that_is_chance(selection):
    table = score_table(PoolScores(SCORES, {}, {}), selection, ["background", "tumour"])
    elections = dict.fromkeys("bc", ModalityElection(0, (0.2, 0.7), True))
    about = (elections, ["T1", "FLAIR"], {})
    assert "utility" in worklist_table(selection, table, *about)
    known = worklist_table(selection, table.assign(component_probability=0.25), *about, drawn=True)
    assert known["probability"].tolist() == [0.25, 0.25] and "utility" not in known
    unknown = worklist_table(selection, table, *about, drawn=True)
    assert {"probability", "utility"}.isdisjoint(unknown)


@pytest.mark.parametrize(
    ("dice", "decided", "stands", "said"),
    [
        ([0.1, 0.8], True, True, "Open FLAIR first: this channel alone leads the network closest .* \\(Dice 0.80\\)"),
        ([0.0, 0.0], False, False, "no channel alone leads"),
        ([0.3, 1.0], False, False, "as in a network that does not use the other channels yet"),
        (
            [0.3, 1.0],
            True,
            False,
            "as in a network that does not use the other channels yet",
        ),  # of a round that an earlier version made
    ],
)
def test_a_channel_is_to_be_opened_first_only_where_the_others_count(dice, decided, stands, said):
    election = {"name": "FLAIR", "dice": dice, "decided": decided}
    assert stands_out(election) is stands
    assert re.search(said, open_first_words(election))
    assert "1.00" not in open_first_words(election)


def test_where_there_was_no_election_nothing_stands_out():
    assert not stands_out({})


def test_the_worklist_names_the_slices_as_people_count_them(selection):
    table = score_table(PoolScores(SCORES, {}, {}), selection, ["background", "tumour"])
    elections = dict.fromkeys("bc", ModalityElection(0, (0.2, 0.7), True))
    slices = {"b": SliceRequest("z", (2, 6)), "c": SliceRequest("x", (0,))}
    worklist = worklist_table(selection, table, elections, ["T1", "FLAIR"], slices)
    assert worklist["axis"].tolist() == ["z", "x"] and worklist["slices"].tolist() == ["3 7", "1"]
