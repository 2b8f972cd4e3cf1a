"""Which cases belong together: scans of one patient look alike, so that one of them in training and another in validation would flatter
every network, and labels of two of them teach little more than one label."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_active.util.errors import CampaignError

_LONGEST = 1000


@dataclass(frozen=True)
class Patients:
    """The patient of every case.

    Attributes:
        pattern: regular expression; the patient is its first group in the case identifier, or all that it matches.
        table: the patient by case.

    A case that the pattern does not match, or that is not in the table, is a patient of its own.

    >>> Patients(r"^(patient\\d+)_").of("patient008_frame13")
    'patient008'
    """

    pattern: str = ""
    table: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def given(cls, text: str) -> Patients:
        """What a person named: a regular expression, or a file with a case and its patient in each row (CSV), or with both as a
        JSON object.

        Raises:
            CampaignError: neither, or a case with two patients.
        """
        file = Path(text)
        try:
            is_file = file.is_file()
        except (OSError, ValueError):
            is_file = False
        if is_file:
            return cls(table=_read_table(file))
        if file.suffix.lower() in (".csv", ".json"):
            raise CampaignError(f"--groups {text} was not found; name a file, or a regular expression.")
        try:
            if not text or len(text) > _LONGEST:
                raise re.error("it is empty, or longer than anybody writes")
            re.compile(text)
        except re.error as error:
            raise CampaignError(f"--groups {text} is neither a file nor a regular expression ({error}).") from None
        return cls(pattern=text)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Patients:
        """Read back what :meth:`to_json` wrote; empty: every case is a patient of its own.

        Raises:
            CampaignError: something else.
        """
        pattern, table = content.get("pattern", ""), content.get("table", {})
        texts = isinstance(pattern, str) and isinstance(table, Mapping)
        if not texts or not all(isinstance(one, str) for one in table.values()):
            raise CampaignError(f"The setting groups is {dict(content)!r}; it has a pattern or a table of cases.")
        return cls.given(pattern) if pattern else cls(table=dict(table))

    def to_json(self) -> dict[str, Any]:
        """As written into ``campaign.json``: the table itself, since the file may change."""
        return {"pattern": self.pattern} if self.pattern else {"table": dict(self.table)} if self.table else {}

    def of(self, case: str) -> str:
        """The patient of a case."""
        if self.pattern and (found := re.search(self.pattern, case)):
            return next((one for one in found.groups() if one), found[0])
        return self.table.get(case, case)

    def cases_of(self, cases: Iterable[str]) -> dict[str, list[str]]:
        """The cases of each patient, both sorted."""
        found: dict[str, list[str]] = {}
        for case in sorted(cases):
            found.setdefault(self.of(case), []).append(case)
        return dict(sorted(found.items()))

    def companions(self, cases: Iterable[str], among: Iterable[str]) -> set[str]:
        """All cases ``among`` whose patient has one of ``cases``."""
        known = {self.of(case) for case in cases}
        return {case for case in among if self.of(case) in known}


def _read_table(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            rows = [(case, patient) for case, patient in json.loads(text).items()]
        else:
            rows = [tuple(cell.strip() for cell in row[:2]) for row in csv.reader(text.splitlines()) if row]
        rows = [(case, patient) for case, patient in rows if case and patient]
    except (OSError, ValueError, AttributeError) as error:
        raise CampaignError(
            f"--groups {file} cannot be read ({error}); each row has a case and its patient, with a comma between."
        ) from None
    table: dict[str, str] = {}
    for case, patient in rows:
        if not isinstance(patient, str):
            raise CampaignError(f"--groups {file}: the patient of {case} is {patient!r}; it must be text.")
        if table.setdefault(case, patient) != patient:
            raise CampaignError(f"--groups {file} has two patients for {case}, {table[case]} and {patient}; keep one.")
    if not table:
        raise CampaignError(f"--groups {file} is empty; each row has a case and its patient, with a comma between.")
    return table
