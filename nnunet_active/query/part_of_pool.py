"""One part of a pool, scored by itself, as ``nnUNetv2_predict -num_parts N -part_id I`` predicts one part of its cases.

The scores stay in the cache. Parts need not run at the same time nor know of one another; a query after them finds all scores there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.pool_building import build_pool
from nnunet_active.query.question import Question, put_question
from nnunet_active.util.errors import EmptyPool
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class Part:
    """Every ``parts``-th case, from ``number`` (from 0) on."""

    number: int
    parts: int

    def of(self, cases: Sequence[str]) -> list[str]:
        """Its share.

        >>> Part(1, 3).of("abcdefg")
        ['b', 'e']
        """
        return list(cases)[self.number :: self.parts]


class OnePart(Ranks):
    """A process that does its share of the cases and knows nothing of the others."""

    whole = False

    def __init__(self, cases: Sequence[str]) -> None:
        super().__init__()
        self._cases = frozenset(cases)

    def only(self, items: Sequence[str]) -> Sequence[str]:
        """See :meth:`Ranks.only`."""
        return [item for item in items if item in self._cases]


def score_part(
    workspace: Workspace,
    window: SlidingWindow | EnsembleWindow,
    candidates: Sequence[str],
    question: Question,
    part: Part,
    log: Log,
) -> int:
    """Score one part of what a question needs; nothing is chosen.

    Args:
        workspace: its campaign (which may exist in memory only) and its preprocessed images.
        window: the network, or the ensemble, that asks.
        candidates: unlabelled cases that may be asked for.
        question: what will be asked.
        part: which part.
        log: where to tell of cases that are left out.

    Returns:
        How many candidates have scores now.

    Raises:
        EmptyPool, ActiveError: see :func:`~nnunet_active.query.question.put_question`.
    """
    asked = put_question(workspace, candidates, question)
    share = OnePart(part.of(workspace.store.identifiers()))
    try:
        return len(build_pool(workspace, window, asked.chooser, asked.candidates, share, log)[0])
    except EmptyPool:  # none of the candidates is in this part
        return 0
