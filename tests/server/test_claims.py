from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from nnunet_active.server.claims import CLAIMS, Claims
from nnunet_active.util.errors import CampaignError

WAITING = ["a", "b", "c"]


def test_each_annotator_gets_the_first_case_that_nobody_has(tmp_path):
    claims = Claims(tmp_path)
    assert [claims.next(who, WAITING) for who in ("ann", "bob", "ann")] == WAITING
    assert claims.holder("b") == "bob" and claims.holder("d") is None


def test_when_none_is_free_annotators_get_their_own_again_in_turn_and_nobody_elses(tmp_path):
    claims = Claims(tmp_path)
    for who in ("ann", "bob", "ann"):
        claims.next(who, WAITING)
    assert [claims.next("ann", WAITING) for _ in range(3)] == ["a", "c", "a"]
    assert claims.next("bob", WAITING) == "b" and claims.next("carol", WAITING) is None


@pytest.mark.parametrize("name", ["", "user-xyz"])
def test_annotators_without_a_name_of_their_own_get_no_case_twice(tmp_path, name):
    claims = Claims(tmp_path)
    assert [claims.next(name, WAITING) for _ in range(4)] == [*WAITING, None]


def test_what_was_given_is_known_after_a_new_start_and_can_be_taken_back(tmp_path):
    Claims(tmp_path).next("ann", WAITING)
    again = Claims(tmp_path)
    assert again.next("bob", WAITING) == "b"
    again.sent("b", "bob", taken=False)
    assert again.free() == ["a"] and again.holder("a") is None
    assert Claims(tmp_path).next("carol", WAITING) == "a"


def test_a_label_that_waits_for_a_training_is_not_asked_for_and_slices_of_a_taken_case_are(tmp_path):
    claims = Claims(tmp_path)
    claims.sent("a", "ann", taken=False)
    claims.sent("b", "ann", taken=True)
    assert claims.next("bob", ["a", "b"]) == "b"
    assert claims.next("carol", ["a", "b"]) is None


def test_no_two_threads_get_the_same_case(tmp_path):
    claims, many = Claims(tmp_path), [f"case_{n}" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda n: claims.next(f"annotator {n % 3}", many), range(60)))
    assert sorted(given) == sorted(many)


def test_a_damaged_list_is_said(tmp_path):
    (tmp_path / CLAIMS).write_text('{"a": 3}')
    with pytest.raises(CampaignError, match="is not the list of who has which case"):
        Claims(tmp_path)
