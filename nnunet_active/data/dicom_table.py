"""The table of series: which series becomes which channel of which case. Rules propose, people decide.

It also holds the pseudonyms, with the patients' IDs beside the names of the cases, so it never lies in nnU-Net's folders.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_active.data.dicom_series import DicomSeries
from nnunet_active.data.raw_dataset import check_case_identifier
from nnunet_active.util.atomic import atomic_file
from nnunet_active.util.errors import ActiveError, BadCaseIdentifier, MissingInput
from nnunet_active.util.tables import csv_text, read_csv

_COLUMNS = (
    *("case", "channel", "modality", "description", "images", "size", "note"),
    *("date", "patient_id", "study_uid", "series_uid"),
)
_NEEDED = ("case", "channel", "study_uid", "series_uid")
_PSEUDONYM = re.compile(r"p(\d+)_(\d+)")
_WORDS = re.compile(r"[^\W_]+")


class SeriesTable:
    """One row per series, in the order of patients and studies.

    Args:
        rows: with the columns of the table's file; texts.
        channels: names of the data set's channels, in order.

    Raises:
        MissingInput: a case or channel name is not valid, or two series claim the same channel of a case.
    """

    def __init__(self, rows: pd.DataFrame, channels: Sequence[str]) -> None:
        self.rows, self.channels = rows, list(channels)
        places: dict[tuple[str, int], int] = {}
        for number, row in enumerate(rows.to_dict("records"), 2):  # row 1 holds the column names
            if not row["channel"]:
                continue
            try:
                check_case_identifier(row["case"])
            except BadCaseIdentifier as error:
                raise MissingInput(f"Row {number} of the table: {error}") from None
            place = (row["case"], self._channel(row["channel"], number))
            if place in places:
                raise MissingInput(
                    f"Rows {places[place]} and {number} of the table both give the channel {self.channels[place[1]]} of case "
                    f"{row['case']}; empty one of the two cells."
                )
            places[place] = number

    @classmethod
    def empty(cls, channels: Sequence[str]) -> SeriesTable:
        """A table without rows."""
        return cls(pd.DataFrame(columns=list(_COLUMNS), dtype=str), channels)

    @classmethod
    def read(cls, file: Path, channels: Sequence[str]) -> SeriesTable:
        """Read a file that :meth:`write` wrote and a person may have changed.

        Raises:
            MissingInput: it is not such a table.
        """
        try:
            with file.open(encoding="utf-8", errors="replace") as content:
                heading = content.readline()
            # spreadsheet programs with a decimal comma save semicolons
            rows = read_csv(file, dtype=str, na_values=[], na_filter=False, sep=";" if heading.count(";") > 2 else ",")
        except (OSError, ValueError) as error:
            raise MissingInput(f"{file} cannot be read as a table ({error}); save it as CSV (UTF-8).") from error
        if absent := [name for name in _NEEDED if name not in rows]:
            raise MissingInput(f"{file} lacks the column {', '.join(absent)}; name a table that import-dicom wrote.")
        for name in _COLUMNS:
            rows[name] = rows[name].str.strip() if name in rows else ""
        return cls(rows, channels)

    def write(self, file: Path) -> None:
        """Replace the file in one step; at every moment only its owner can read it."""
        with atomic_file(file, private=True) as temporary:
            temporary.write_text(csv_text(self.rows), encoding="utf-8", newline="\n")

    def add(
        self, found: Sequence[DicomSeries], patterns: Mapping[str, re.Pattern], in_use: Collection[str] = ()
    ) -> int:
        """Add the series that the table lacks; a new study gets a case name and proposals for its channels.

        Args:
            found: series, in order of patients and studies.
            patterns: channel -> pattern for the series' description, instead of the channel's name.
            in_use: cases of the data set; a new patient gets a name that none of them has, whichever table they came from.

        Returns:
            How many were added.
        """
        known = set(zip(self.rows["study_uid"], self.rows["series_uid"], strict=True))
        new = [one for one in found if (one.study, one.uid) not in known]
        studies: dict[tuple[str, str], list[DicomSeries]] = {}
        of_patient: dict[str, set[str]] = {}
        for one in found:
            of_patient.setdefault(one.patient, set()).add(one.study)
        for one in new:
            studies.setdefault((one.patient, one.study), []).append(one)
        rows = []
        for (patient, study), series in studies.items():
            before = self.rows[self.rows["study_uid"] == study]
            proposed = {} if len(before) else propose_channels(series, self.channels, patterns)
            case = before["case"].iloc[0] if len(before) else self._name(patient, of_patient, in_use)
            rows = [_row(one, case, proposed.get(one.uid, ""), patient) for one in series]
            self.rows = pd.concat([self.rows, pd.DataFrame(rows, columns=list(_COLUMNS))], ignore_index=True)
        return len(new)

    def cases(self) -> dict[str, dict[int, tuple[str, str]]]:
        """Case -> channel number -> UIDs of the study and the series; only cases with a series."""
        found: dict[str, dict[int, tuple[str, str]]] = {}
        for number, row in enumerate(self.rows.to_dict("records"), 2):
            if row["channel"]:
                place = found.setdefault(row["case"], {})
                place[self._channel(row["channel"], number)] = (row["study_uid"], row["series_uid"])
        return found

    def _channel(self, text: str, number: int) -> int:
        alike = [index for index, name in enumerate(self.channels) if name.lower() == text.lower()]
        if len(alike) == 1:
            return alike[0]
        raise MissingInput(
            f"Row {number} of the table names the channel {text!r}; the data set has {', '.join(self.channels)}: write one of them, or "
            f"nothing where the series is not wanted."
        )

    def _name(self, patient: str, of_patient: Mapping[str, Collection[str]], in_use: Collection[str]) -> str:
        """``p001_2``: the second study of the first patient."""
        others = [match for case in in_use if (match := _PSEUDONYM.fullmatch(case))]
        taken = [(_PSEUDONYM.fullmatch(case), row) for row, case in enumerate(self.rows["case"])]
        rows = self._rows_of(patient, of_patient)
        own = [match for match, row in taken if match and row in rows]
        every = [*(match for match, _ in taken if match), *others]
        number = int(own[0][1]) if own else max((int(match[1]) for match in every), default=0) + 1
        study = max((int(match[2]) for match in every if int(match[1]) == number), default=0) + 1
        return f"p{number:03d}_{study}"

    def _rows_of(self, patient: str, of_patient: Mapping[str, Collection[str]]) -> set[int]:
        """Rows of one patient: those with the ID, or with one of the patient's study UIDs, which no spreadsheet program changes. The
        program may strip zeros from an ID; unless a study UID decides, an ID that differs only in that counts as the same."""
        table = list(enumerate(self.rows[["patient_id", "study_uid"]].to_numpy()))
        rows = {row for row, (who, study) in table if who == patient or study in of_patient[patient]}
        short = patient.lstrip("0") or "0"
        if rows or short == patient or short in of_patient or not patient.isdecimal():
            return rows
        return {row for row, (who, _) in table if who == short}


def propose_channels(
    series: Sequence[DicomSeries], channels: Sequence[str], patterns: Mapping[str, re.Pattern]
) -> dict[str, str]:
    """Series UID -> channel, for the series of one study.

    A channel gets a series if exactly one volume matches: its description matches the pattern or contains the words of the channel's
    name, or its modality equals the channel's name. With one channel, one volume and no pattern, nothing needs to match.
    """
    volumes = [one for one in series if not one.fault()]
    proposed: dict[str, list[str]] = {}
    for channel in channels:
        fits = [one for one in volumes if _matches(one, channel, patterns.get(channel))]
        if not fits and len(channels) == len(volumes) == 1 and not patterns:
            fits = volumes
        if len(fits) == 1:
            proposed.setdefault(fits[0].uid, []).append(channel)
    return {uid: names[0] for uid, names in proposed.items() if len(names) == 1}


def _matches(series: DicomSeries, channel: str, pattern: re.Pattern | None) -> bool:
    if pattern is not None:
        return pattern.search(series.description) is not None
    words, wanted = _WORDS.findall(series.description.lower()), _WORDS.findall(channel.lower())
    there = any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))
    return bool(wanted) and (there or [series.modality.lower()] == wanted)


def _row(series: DicomSeries, case: str, channel: str, patient: str) -> dict[str, str]:
    note = "; ".join([fault] if (fault := series.fault()) else series.notes())
    values = (case, channel, series.modality, series.description, str(len(series.planes)), series.size(), note)
    return dict(zip(_COLUMNS, (*values, series.date, patient, series.study, series.uid), strict=True))


def check_apart(flag: str, path: Path, roots: Sequence[Path]) -> None:
    """Refuse to put a file that links pseudonyms to patients into a folder that is shared as data.

    Raises:
        ActiveError: the path lies below one of the roots.
    """
    inside = [root for root in roots if path.resolve().is_relative_to(root.resolve())]
    if inside:
        raise ActiveError(
            f"{flag} {path} lies in {inside[0]}, but it tells whose scans these are; keep it elsewhere, apart from the data."
        )
