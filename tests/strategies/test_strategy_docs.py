"""The examples of the how-to page are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from strategy_pools import make_pool
from test_contract import assert_valid, identical, shuffled

from nnunet_active.strategies import ENTRY_POINT_GROUP, get_strategy
from nnunet_active.strategies.base import NEEDS

PAGE = Path(__file__).parents[2] / "docs" / "how-to-add-a-strategy.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def example_folder(tmp_path, monkeypatch):
    (tmp_path / "boundary.py").write_text(BLOCKS[0])
    (tmp_path / "largest.py").write_text(BLOCKS[2])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_runs_as_the_page_says(example_folder, capsys):
    exec(compile(BLOCKS[1], "how-to", "exec"), {})
    picks = capsys.readouterr().out
    assert picks.count("case_") == 2


@pytest.mark.parametrize("name", ["boundary.py:UncertainForItsSize", "largest.py:LargestPrediction"])
@pytest.mark.parametrize("n", [1, 4, 99])
@pytest.mark.parametrize("labelled", [0, 3])
def test_the_examples_keep_the_contract(example_folder, name, n, labelled):
    pool = make_pool(labelled=labelled)
    selection = get_strategy(name).query(pool, n, np.random.default_rng(0))
    assert_valid(selection, pool, n)
    assert get_strategy(name).query(shuffled(pool), n, np.random.default_rng(0)).picks == selection.picks
    assert_valid(get_strategy(name).query(identical(pool), n, np.random.default_rng(0)), pool, n)
    one = make_pool(n=1, labelled=labelled)
    assert_valid(get_strategy(name).query(one, n, np.random.default_rng(0)), one, n)


def test_an_example_can_be_wrapped(example_folder):
    member = get_strategy("largest.py:LargestPrediction")
    assert len(get_strategy("per_cluster", member=member).query(make_pool(), 3, np.random.default_rng(0)).picks) == 3


def test_the_page_names_all_needs_and_the_entry_point_group():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{word}`" in text for word in NEEDS)
    assert ENTRY_POINT_GROUP in text
