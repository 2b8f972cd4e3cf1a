from __future__ import annotations

import numpy as np
import pytest
from strategy_pools import make_pool

from nnunet_active.rounds.score_words import FACTORS, SCORES, meaning
from nnunet_active.scoring.statistics import SCALARS
from nnunet_active.strategies.registry import available_strategies, get_strategy


def test_every_column_of_scores_csv_has_words():
    assert set(SCALARS) - {"voxels"} <= set(SCORES)


@pytest.mark.parametrize("name", sorted(available_strategies()))
def test_every_factor_of_every_strategy_has_words(name):
    selection = get_strategy(name).query(make_pool(), 3, np.random.default_rng(0))
    assert [factor for factor in selection.components if not meaning(factor)] == []


def test_a_member_of_a_combination_is_named():
    assert meaning("0_entropy") == "utility of the strategy 'entropy'"
    assert meaning("somebody_elses") == "" and meaning("u") == FACTORS["u"]
