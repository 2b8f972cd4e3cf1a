from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.query.selector import Proposal
from nnunet_active.rounds.time_budget import AnnotationTime
from nnunet_active.rounds.timed_choice import CaseMinutes, choose_in_time
from nnunet_active.strategies.base import Selection
from nnunet_active.util.errors import EmptyPool

# case -> predicted objects, voxels (of 1 cm3) in each; in the order in which the strategy likes them
POOL = {"big": (1, 50), "two": (2, 5), "one": (1, 5), "none": (0, 0)}


class Store:
    """Cases as arrays that hold what is predicted of them."""

    def image_state(self, case):
        return (1, 2)

    def spacing(self, case):
        return (10.0, 10.0, 10.0)

    def load_image(self, case):
        objects, voxels = POOL[case]
        image = np.zeros((1, 3, 9, 60), np.float32)
        for number in range(objects):
            image[0, 1, 4 * number, :voxels] = 1
        return image


class Window:
    """Predicts what the image says, and counts how often it was asked."""

    digest = "0123456789abcdef"
    passes = 0

    def predicted_classes(self, image):
        self.passes += 1
        return image[0].astype(np.int16)


def ask(number, must=(), left_out=()):
    """A strategy that likes the pool's order; what must be in comes first."""
    left = [case for case in POOL if case not in left_out]
    if not left:
        raise EmptyPool("nobody")
    picks = tuple([*must, *(case for case in left if case not in must)][:number])
    volume = {case: objects * voxels * 1000.0 for case, (objects, voxels) in POOL.items()}
    table = pd.DataFrame({"foreground_mm3": {case: volume[case] for case in left}})
    notes = [f"Included by the user: {', '.join(must)}."] if must else []
    selection = Selection(picks, pd.DataFrame(), pd.DataFrame(), ())
    worklist = pd.DataFrame({"case": list(picks)})
    return Proposal(1, selection, table, worklist, {}, tuple(left), {"notes": notes, "must_include": list(must)})


@pytest.fixture
def minutes(tmp_path):
    return CaseMinutes(Store(), Window(), ScoreCache(tmp_path), AnnotationTime(base=1, per_object=2, per_cm3=0.1))


def test_objects_and_volume_are_measured_once_and_kept(minutes, tmp_path):
    assert minutes.measure("two") == (2, 10.0) and minutes.minutes("two") == pytest.approx(1 + 2 * 2 + 1)
    assert minutes.window.passes == 1
    again = CaseMinutes(Store(), Window(), ScoreCache(tmp_path), AnnotationTime(base=7))
    assert again.measure("two") == (2, 10.0) and again.window.passes == 0


def test_the_favourites_that_fit_are_taken_in_their_order(minutes):
    chosen = choose_in_time(ask, minutes, 14.5)  # big 8, two 6, one 3.5, none 1
    assert chosen.picks == ("big", "two")
    assert list(chosen.table["minutes"].dropna()) == pytest.approx([8.0, 6.0])
    assert list(chosen.worklist["objects"]) == [1, 2]
    assert chosen.details["notes"] == ["2 cases fill 14 of 14.5 minutes (expected)."]


def test_what_does_not_fit_is_passed_over_and_stays_among_the_candidates(minutes):
    chosen = choose_in_time(ask, minutes, 7.0)
    assert chosen.picks == ("two", "none") and set(chosen.table.index) == set(POOL)
    said = "Passed over, since too long: big (8 minutes, 7 were left), one (2 minutes or more, 1 were left)"
    assert chosen.details["notes"][1] == f"{said}; --time-budget 8 has room for big."


def test_what_is_left_when_the_time_is_used_up_was_not_passed_over(minutes):
    def drawn(*given):  # the order of the first proposal is chance, and says nothing of the later ones
        proposal = ask(*given)
        return replace(proposal, table=proposal.table.iloc[::-1])

    chosen = choose_in_time(drawn, minutes, 14.5)
    assert chosen.picks == ("big", "two") and len(chosen.details["notes"]) == 1


def test_a_case_whose_volume_alone_is_too_much_is_not_even_measured(minutes):
    choose_in_time(ask, minutes, 5.0)  # big takes 6 for its volume
    assert minutes.window.passes == 3


def test_never_more_than_so_many(minutes):
    assert choose_in_time(ask, minutes, 100.0, most=2).picks == ("big", "two")
    assert choose_in_time(ask, minutes, 100.0).picks == tuple(POOL)


def test_what_the_user_includes_comes_first_whatever_it_takes(minutes):
    chosen = choose_in_time(ask, minutes, 12.0, must_include=["big"])
    assert chosen.picks == ("big", "one") and chosen.details["must_include"] == ["big"]
    assert chosen.details["notes"][1] == "Included by the user: big."


def test_too_little_time_for_any_case_says_how_long_the_shortest_takes(minutes):
    with pytest.raises(EmptyPool, match=r"0.5 minutes: the shortest takes 1 or more; .* \(8 for the favourite, big\)"):
        choose_in_time(ask, minutes, 0.5)
