"""Scores one part of a pool, as ``nnUNetv2_predict -num_parts N -part_id I`` predicts one part of its cases.

The scores are kept in the cache. Parts are independent and need not run at the same time; a later query finds all their scores there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.pool_building import build_pool, needs_network
from nnunet_active.query.question import Question, put_question
from nnunet_active.util.errors import EmptyPool
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class Part:
    """Every ``parts``-th case, starting at ``number`` (counted from 0)."""

    number: int
    parts: int

    def of(self, cases: Sequence[str]) -> list[str]:
        """The cases of this part.

        >>> Part(1, 3).of("abcdefg")
        ['b', 'e']
        """
        return list(cases)[self.number :: self.parts]


class OnePart(Ranks):
    """A process that handles only its own part of the cases."""

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
    """Score one part of the cases that a question needs, without choosing.

    Args:
        workspace: gives the campaign (which may exist in memory only) and the preprocessed images.
        window: the querying network or ensemble.
        candidates: unlabelled cases that may be asked for.
        question: the question to be asked later.
        part: the part to score.
        log: gets warnings about cases that are left out.

    Returns:
        Number of candidates that have scores now; 0 if the strategy needs none.

    Raises:
        EmptyPool, ActiveError: see :func:`~nnunet_active.query.question.put_question`.
    """
    asked = put_question(workspace, candidates, question)
    share = OnePart(part.of(workspace.store.identifiers()))
    if not needs_network(asked.chooser):
        return 0
    try:
        return len(build_pool(workspace, window, asked.chooser, asked.candidates, share, log)[0])
    except EmptyPool:  # none of the candidates is in this part
        return 0
