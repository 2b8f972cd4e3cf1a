"""A next step of a campaign: the command, the reasons for it, and how both are printed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class NextStep:
    """The next step of a campaign.

    Attributes:
        kind: ``select``, ``annotate``, ``label`` (a person is at work), ``ingest``, ``preprocess``, ``train``, ``wait`` (a training
            is running) or ``done``.
        command: what to type next; for ``label``, what to type once labels are finished.
        why: sentences, the most important first.
        also: other commands that make sense now, each with a reason.
        state: numbers and names for scripts.
        answer: whether the adapted model is better than the source model, if a training has measured it; then the last forecast.
    """

    kind: str
    command: str
    why: tuple[str, ...]
    also: tuple[tuple[str, str], ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    answer: str = ""

    @property
    def costs(self) -> tuple[str, ...]:
        """What a training costs, and the other reasons for it, to be said before the command; none for any other step."""
        return self.why[1:] if self.kind == "train" else ()

    def to_json(self) -> dict[str, Any]:
        """The step in JSON types only."""
        return json.loads(json.dumps(asdict(self)))

    def line(self, training: str = "the training", first: str = "Next: ") -> str:
        """The command after ``first``, or that there is none; ``training``: how to call the one that is under way."""
        nothing = f"There is nothing to do until {training} ends." if self.kind == "wait" else "Nothing is left to do."
        return f"{first}{self.command}" if self.command else nothing

    def lines(self) -> list[str]:
        """The step as one screen of text."""
        first = [self.answer, ""] if self.answer else []
        also = [f"  or, {reason}: {command}" for reason, command in self.also]
        return [*first, *self.why, "", self.line("it"), *also]
