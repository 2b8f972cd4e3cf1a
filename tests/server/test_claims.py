from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from nnunet_active.server.claims import CLAIMS, Claims
from nnunet_active.util.errors import CampaignError

WAITING = ["a", "b", "c"]


def asked(*cases: str, number: int = 1):
    """The cases of a round, as the campaign tells them."""
    return lambda: dict.fromkeys(cases, number)


ALL = asked(*WAITING)


def test_each_annotator_gets_the_first_case_that_nobody_has(tmp_path):
    claims = Claims(tmp_path)
    assert [claims.next(who, ALL) for who in ("ann", "bob", "ann")] == WAITING
    assert claims.holder("b") == "bob" and claims.holder("d") is None


def test_when_none_is_free_annotators_get_their_own_again_in_turn_and_nobody_elses(tmp_path):
    claims = Claims(tmp_path)
    for who in ("ann", "bob", "ann"):
        claims.next(who, ALL)
    assert [claims.next("ann", ALL) for _ in range(3)] == ["a", "c", "a"]
    assert claims.next("bob", ALL) == "b" and claims.next("carol", ALL) is None


@pytest.mark.parametrize("name", ["", "user-xyz"])
def test_annotators_without_a_name_of_their_own_get_no_case_twice(tmp_path, name):
    claims = Claims(tmp_path)
    assert [claims.next(name, ALL) for _ in range(4)] == [*WAITING, None]


def test_what_was_given_is_known_after_a_new_start_and_can_be_taken_back(tmp_path):
    Claims(tmp_path).next("ann", ALL)
    again = Claims(tmp_path)
    assert again.next("bob", ALL) == "b"
    again.sent("b", "bob", 1, taken=False)
    assert again.free() == ["a"] and again.holder("a") is None
    assert Claims(tmp_path).next("carol", ALL) == "a"


def test_a_label_that_waits_for_a_training_is_not_asked_for_and_slices_of_a_taken_case_are(tmp_path):
    claims = Claims(tmp_path)
    claims.sent("a", "ann", 1, taken=False)
    claims.sent("b", "ann", 1, taken=True)
    assert claims.next("bob", asked("a", "b")) == "b"
    assert claims.next("carol", asked("a", "b")) is None


@pytest.mark.parametrize("taken", [None, False, True])
def test_a_case_that_a_later_round_asks_for_again_is_free_whatever_became_of_it_before(tmp_path, taken):
    claims = Claims(tmp_path)
    claims.next("ann", asked("a"))
    if taken is not None:
        claims.sent("a", "ann", 1, taken=taken)
    again = Claims(tmp_path)
    assert again.next("bob", asked("a", number=2)) == "a" and again.holder("a") == "bob"
    assert again.next("carol", asked("a", number=2)) is None


def test_a_case_whose_label_comes_in_at_this_moment_is_not_given_to_somebody_else(tmp_path):
    claims = Claims(tmp_path)
    claims.next("ann", asked("a"))
    with ThreadPoolExecutor(1) as pool:

        def look():  # it still waits when the campaign is looked at, and its label is noted right after
            noted = pool.submit(claims.sent, "a", "ann", 1, taken=True)
            wait([noted], timeout=0.2)
            return {"a": 1}

        assert claims.next("bob", look) is None
    assert claims.holder("a") == "ann"


def test_a_case_that_nobody_has_belongs_to_whoever_claims_it_first(tmp_path):
    claims = Claims(tmp_path)
    assert [claims.claim("a", who, 1) for who in ("ann", "bob")] == ["ann", "ann"]
    assert claims.next("bob", asked("a", "b")) == "b" and claims.claim("a", "bob", 2) == "bob"


def test_no_two_threads_get_the_same_case(tmp_path):
    claims, many = Claims(tmp_path), [f"case_{n}" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda n: claims.next(f"annotator {n % 3}", asked(*many)), range(60)))
    assert sorted(given) == sorted(many)


def test_a_damaged_list_is_said(tmp_path):
    (tmp_path / CLAIMS).write_text('{"a": 3}')
    with pytest.raises(CampaignError, match="is not the list of who has which case"):
        Claims(tmp_path)


def test_where_slices_are_asked_for_the_round_that_was_shown_is_kept_until_the_case_is_given_again(tmp_path):
    claims = Claims(tmp_path)
    claims.next("ann", asked("a"))
    assert claims.claim("a", "ann", 2, in_slices=True) == "ann" and claims.shown("a") == 1
    assert Claims(tmp_path).shown("a") == 1 and claims.shown("b") is None
    assert claims.next("ann", asked("a", number=2)) == "a" and claims.shown("a") == 2
    assert claims.claim("a", "bob", 3, in_slices=True) == "bob" and claims.shown("a") == 3


def test_a_case_whose_sent_label_was_taken_out_again_is_free(tmp_path):
    there = {"a", "b"}
    claims = Claims(tmp_path, there.__contains__)
    for case in WAITING[:2]:
        claims.next("ann", asked(case))
        claims.sent(case, "ann", 1, taken=False)
    assert claims.next("bob", asked("a", "b")) is None and claims.free() == []
    there.remove("a")
    assert claims.next("bob", asked("a", "b")) == "a" and claims.holder("a") == "bob"
    there.remove("b")
    assert claims.free() == ["b", "a"] and claims.holder("b") is None
