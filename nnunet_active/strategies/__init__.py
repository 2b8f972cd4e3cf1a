"""Query strategies: which unlabelled cases to label next. One strategy per file, found by name.

>>> import numpy as np, pandas as pd
>>> pool = ScoredPool(pd.DataFrame({"mean_entropy": [0.1, 0.3, 0.2]}, index=["a", "b", "c"]))
>>> get_strategy("entropy").query(pool, 2, np.random.default_rng(0)).picks
('b', 'c')
"""

from nnunet_active.strategies.base import QueryStrategy, ScoreStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.registry import ENTRY_POINT_GROUP, available_strategies, get_strategy

__all__ = [
    "ENTRY_POINT_GROUP",
    "QueryStrategy",
    "ScoreStrategy",
    "ScoredPool",
    "Selection",
    "Steps",
    "available_strategies",
    "get_strategy",
]
