"""Which cases preprocessing set aside, and why, so that every later command can name them with the reason.

``active/set_aside.json`` below the preprocessed data set is only a note. If it cannot be read, the next preprocessing makes it
anew, and its entry for a case holds only as long as the case's image files stay unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.raw_dataset import RawCase, RawDataset
from nnunet_active.util.atomic import write_json

FILE = "set_aside.json"


def remember_set_aside(store: CaseStore, raw: RawDataset, problems: Mapping[str, str]) -> None:
    """Note what preprocessing the whole data set found; other configurations keep their notes.

    Args:
        store: the configuration that was preprocessed.
        raw: the data set.
        problems: case -> sentence.
    """
    file = _file(store.dataset_folder)
    wanted = {*raw.cases} - {*store.identifiers()}  # a refused label leaves the image in use
    notes = {
        case: [sentence, _sources(raw.cases[case], store)] for case, sentence in problems.items() if case in wanted
    }
    known = _read(file)
    if notes != known.get(store.folder.name, {}):
        write_json(file, {**known, store.folder.name: notes})


def cases_set_aside(store: CaseStore, raw: RawDataset) -> dict[str, str]:
    """Case -> sentence, for every case of the raw data set that cannot be used at present and has no preprocessed copy."""
    stored = {*store.identifiers()}
    found = dict(raw.problems)
    for case, (sentence, sources) in _read(_file(store.dataset_folder)).get(store.folder.name, {}).items():
        if case in raw.cases and case not in stored and sources == _sources(raw.cases[case], store):
            found[case] = sentence
    return dict(sorted(found.items()))


def _file(dataset_folder: Path) -> Path:
    return dataset_folder / "active" / FILE


def _sources(case: RawCase, store: CaseStore) -> list[list]:
    files = [file for file in store.image_sources(case) if file.is_file()]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _read(file: Path) -> dict[str, dict[str, list]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(folder): {str(case): [str(sentence), list(sources)] for case, (sentence, sources) in notes.items()}
            for folder, notes in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
