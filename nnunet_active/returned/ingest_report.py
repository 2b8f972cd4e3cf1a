"""The report of a run of ``nnunet_active ingest``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class IngestReport:
    """What happened to the cases, in the order in which they were handled.

    Attributes:
        taken: facts about each new label, by case.
        unasked: those of the new labels that no round asked for.
        corrected: facts about each label that replaced an earlier one, by case.
        delivered: cases whose label was put into ``labelsTr`` while another process held the campaign; that process, or the next
            run, takes them up.
        untouched: files that are still the prediction as handed out, by case.
        astray: for each waiting case whose label may lie in a hand-off folder under another name, one sentence.
        refused: for each case whose label is refused, or cannot be accepted unchanged, one sentence.
        warnings: sentences by case.
        doubts: those warnings after which somebody has to look at the label again, by case.
        declined: cases that nobody can label.
        waiting: cases that still wait for a label.
        unknown: label files that are named after no case.
        notes: sentences about the campaign.
    """

    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    unasked: list[str] = field(default_factory=list)
    corrected: dict[str, dict[str, Any]] = field(default_factory=dict)
    delivered: list[str] = field(default_factory=list)
    untouched: dict[str, list[str]] = field(default_factory=dict)
    astray: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    declined: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def warn(self, case: str, *sentences: str) -> None:
        """Add warnings about a case, each once."""
        said = self.warnings.setdefault(case, []) if sentences else []
        said += [sentence for sentence in dict.fromkeys(sentences) if sentence not in said]

    def doubt(self, case: str, sentence: str) -> None:
        """Add a warning after which somebody has to look at the label again."""
        self.warn(case, sentence)
        self.doubts[case] = sentence

    def to_json(self) -> dict[str, Any]:
        """The report in JSON types only."""
        return asdict(self)
