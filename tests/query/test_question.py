from __future__ import annotations

import pytest
from tiny_rounds import start

from nnunet_active.query.question import Question, put_question
from nnunet_active.strategies.coreset import CoresetStrategy
from nnunet_active.util.errors import ActiveError, EmptyPool
from nnunet_active.workspace import Workspace

POOL = ["case_3", "case_1", "case_2"]


@pytest.fixture
def workspace(target) -> Workspace:
    return Workspace.of(start(strategy="entropy", seed=7, query_size=2))


def test_what_is_left_open_is_as_the_campaign_has_it(workspace):
    asked = put_question(workspace, POOL, Question())
    assert (asked.question.strategy, asked.size, asked.cases, asked.seed) == ("entropy", 2, 2, [7, 1])
    assert asked.candidates == sorted(POOL) and asked.number == 1


def test_a_strategy_of_its_own_comes_with_its_own_options(workspace):
    asked = put_question(workspace, POOL, Question(strategy="coreset", size=1, seed=3))
    assert isinstance(asked.chooser, CoresetStrategy) and asked.question.strategy_options == {}
    assert (asked.size, asked.seed) == (1, [3, 1])


def test_excluded_cases_are_not_candidates_and_included_ones_count(workspace):
    asked = put_question(workspace, POOL, Question(size=1, exclude=("case_2",), must_include=("case_3", "case_1")))
    assert asked.candidates == ["case_1", "case_3"] and asked.must == ["case_3", "case_1"] and asked.size == 2


def test_what_cannot_be_asked_is_said(workspace):
    with pytest.raises(ActiveError, match="nobody cannot be included"):
        put_question(workspace, POOL, Question(must_include=("nobody",)))
    with pytest.raises(ActiveError, match="case_1 cannot be both"):
        put_question(workspace, POOL, Question(must_include=("case_1",), exclude=("case_1",)))
    with pytest.raises(EmptyPool):
        put_question(workspace, POOL, Question(exclude=tuple(POOL)))
