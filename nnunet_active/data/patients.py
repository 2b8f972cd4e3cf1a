"""Which cases share a patient. Scans of one patient look alike: with one in training and another in validation, every network would
look better than it is, and labels of two of them teach little more than one label."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_active.data.file_endings import IMAGE_ENDINGS
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.naming import first_names

_LONGEST = 1000
_ROW = "each row has a case and its patient, with a comma between"


@dataclass(frozen=True)
class Patients:
    """The patient of every case.

    Attributes:
        pattern: regular expression; the patient is its first group in the case identifier, or the whole match.
        table: the patient by case.

    A case of which the pattern matches nothing, or that the table lacks, is a patient of its own.

    >>> Patients(r"^(patient\\d+)_").of("patient008_frame13")
    'patient008'
    """

    pattern: str = ""
    table: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def given(cls, text: str) -> Patients:
        """Read what a person gave: a regular expression, or a file with a case and its patient in each row (CSV), or with both as a
        JSON object.

        Raises:
            CampaignError: it is neither, or a case has two patients.
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
        """Read back what :meth:`to_json` wrote; if empty, every case is a patient of its own.

        Raises:
            CampaignError: the content is anything else.
        """
        pattern, table = content.get("pattern", ""), content.get("table", {})
        texts = isinstance(pattern, str) and isinstance(table, Mapping)
        if not texts or not all(isinstance(one, str) for one in table.values()):
            raise CampaignError(f"The setting groups is {dict(content)!r}; it has a pattern or a table of cases.")
        return cls.given(pattern) if pattern else cls(table=dict(table))

    def to_json(self) -> dict[str, Any]:
        """The content for ``campaign.json``: the table itself, because the file may change."""
        return {"pattern": self.pattern} if self.pattern else {"table": dict(self.table)} if self.table else {}

    def of(self, case: str) -> str:
        """The patient of a case."""
        return (self._matched(case) if self.pattern else self.table.get(self._key(case))) or case

    def _matched(self, case: str) -> str:
        found = re.search(self.pattern, case)
        return next((one for one in found.groups() if one), found[0]) if found else ""

    def check(self, cases: Collection[str]) -> tuple[str, ...]:
        """Check that the table or the pattern covers the cases of the data set; otherwise scans of one patient would silently be
        split.

        Args:
            cases: all cases of the data set.

        Returns:
            Warnings about cases whose patient is not named.

        Raises:
            CampaignError: no case is named, or a spreadsheet program stripped zeros from the names.
        """
        if not (self.pattern or self.table) or not cases:
            return ()
        unnamed = [case for case in sorted(cases) if not self._names(case)]
        numbers = {int(name): name for name in {*self.table} - {*cases} if _is_number(name)}
        for case in unnamed:
            if _is_number(case) and (name := numbers.get(int(case))):
                raise CampaignError(
                    f"--groups names {name} where the data set has {case}: a spreadsheet program took the names for numbers and "
                    f"dropped their zeros; make that column text, and write the zeros again."
                )
        if len(unnamed) == len(cases):
            what = f"The regular expression {self.pattern} of --groups" if self.pattern else "The file of --groups"
            named = "matches" if self.pattern else f"names {first_names(sorted(self.table))}, which is"
            raise CampaignError(f"{what} {named} none of the cases of this data set ({first_names(unnamed)}).")
        if unnamed:
            return (self.about_unnamed(cases),)
        return ()

    def about_unnamed(self, cases: Iterable[str]) -> str:
        """A warning about cases whose patient is not named, e.g. those added after the campaign began; empty if there are none."""
        unnamed = [case for case in sorted(cases) if not self._names(case)] if self.pattern or self.table else []
        if not unnamed:
            return ""
        return (
            f"--groups does not say whose {first_names(unnamed)} is; such a case counts as the only one of its patient, and only "
            f"another campaign can change that (nnunet_active init ... --groups FILE --restart)."
        )

    def _names(self, case: str) -> bool:
        return bool(self._matched(case)) if self.pattern else self._key(case) in self.table

    def _key(self, case: str) -> str:
        return case if case in self.table else unicodedata.normalize("NFC", case)

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
        rows = list(json.loads(text).items()) if file.suffix.lower() == ".json" else _read_rows(text)
    except (OSError, ValueError, AttributeError, csv.Error) as error:
        raise CampaignError(f"--groups {file} cannot be read ({error}); {_ROW}.") from None
    rows = [(_case_named(case), patient) for case, patient in rows if case and patient]
    table: dict[str, str] = {}
    for case, patient in rows:
        if not isinstance(patient, str):
            raise CampaignError(f"--groups {file}: the patient of {case} is {patient!r}; it must be text.")
        if table.setdefault(case, patient) != patient:
            raise CampaignError(f"--groups {file} has two patients for {case}, {table[case]} and {patient}; keep one.")
    if not table:
        raise CampaignError(f"--groups {file} is empty; {_ROW}.")
    return table


def _read_rows(text: str) -> list[tuple[str, str]]:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    # spreadsheet programs with a decimal comma save semicolons
    between = next((one for one in (",", ";", "\t") if one in first), ",")
    rows = []
    for number, row in enumerate(csv.reader(lines, delimiter=between), 1):
        cells = [cell.strip() for cell in row[:2]]
        if len(cells) == 1 and cells[0]:
            raise ValueError(f"row {number}, {cells[0]!r}, is a single cell")
        if len(cells) == 2:
            rows.append((cells[0], cells[1]))
    return rows


def _case_named(text: str) -> str:
    """The case meant by a person who wrote its file name; accents are composed, as in :mod:`file_endings`."""
    name = unicodedata.normalize("NFC", text)
    ending = next((one for one in sorted(IMAGE_ENDINGS, key=len, reverse=True) if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
