"""Caches computed scores: one small file for each network and case.

``nnUNet_preprocessed/DatasetXXX/active/scores/<plans>__<configuration>/<network digest>/CASE.npz``. An entry is valid only for the
image file that it was made from (same size and modification time). So a second query with the same network needs no forward pass, and a
killed query goes on where it stopped. The folder is only a cache and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_active.data.raw_dataset import check_case_identifier
from nnunet_active.util.atomic import atomic_file

FORMAT = 1
"""Increase it whenever the formula of a score changes: entries of another format are not used."""

NETWORKS_KEPT = 4
"""Number of networks whose scores are kept, besides networks marked to stay (the source)."""

_MARK = ".keep"


@dataclass(frozen=True)
class CacheEntry:
    """Cached scores of one case: scalars by name, arrays by name."""

    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class ScoreCache:
    """Reads and writes entries. A file that is damaged, old, or of another image is ignored.

    Args:
        folder: folder of the entries of one data set, plans and configuration; need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def of(cls, dataset_folder: Path, plans: str, configuration: str) -> ScoreCache:
        """The cache of a configuration below ``nnUNet_preprocessed/DatasetXXX``."""
        return cls(Path(dataset_folder) / "active" / "scores" / f"{plans}__{configuration}")

    def get(
        self, digest: str, case: str, state: tuple[int, int], wanted: Collection[str] | None = None
    ) -> CacheEntry | None:
        """The entry of a case, or None.

        Args:
            digest: digest of the network (:attr:`nnunet_active.nnunet.inference.Window.digest`).
            case: its identifier.
            state: state of its image file, from :meth:`nnunet_active.data.cases.CaseStore.image_state`.
            wanted: names of the arrays to read; None for all.
        """
        file = self._file(digest, case)
        try:
            with np.load(file, allow_pickle=False) as content:
                if content["format"].item() != FORMAT or tuple(content["state"].tolist()) != tuple(state):
                    return None
                names, values = content["scalar_names"].tolist(), content["scalar_values"].tolist()
                there = {name[6:] for name in content.files if name.startswith("array_")}
                arrays = {name: content[f"array_{name}"] for name in (there if wanted is None else there & {*wanted})}
                scalars = dict(zip(names, map(float, values), strict=True))
        except Exception:  # zip, zlib and NumPy raise many kinds of errors for a damaged file; score the case again
            return None
        return CacheEntry(scalars, arrays)

    def add(
        self,
        digest: str,
        case: str,
        state: tuple[int, int],
        scalars: Mapping[str, float],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Add scores to the entry of a case. A full or read-only disk does not stop the query."""
        known = self.get(digest, case, state) or CacheEntry()
        scalars = {**known.scalars, **scalars}
        arrays = {**known.arrays, **arrays}
        file = self._file(digest, case)
        with contextlib.suppress(OSError), atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                format=np.array(FORMAT),
                state=np.array(state, dtype=np.int64),
                scalar_names=np.array(list(scalars), dtype=str),
                scalar_values=np.array(list(scalars.values()), dtype=np.float64),
                **{f"array_{name}": values for name, values in arrays.items()},
            )

    def keep(self, digest: str) -> None:
        """Mark a network whose scores :meth:`prune` must keep: the source network, which later rounds use again."""
        with contextlib.suppress(OSError):
            folder = self._folder(digest)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _MARK).touch()

    def used(self, digest: str) -> None:
        """Record that a network's entries were just used."""
        with contextlib.suppress(OSError):
            os.utime(self._folder(digest))

    def prune(self) -> list[str]:
        """Delete the scores of all networks except the marked ones and the :data:`NETWORKS_KEPT` last used.

        Returns:
            The digests of the deleted networks.
        """
        if not self.folder.is_dir():
            return []
        gone: list[str] = []
        with contextlib.suppress(OSError):
            folders = [child for child in self.folder.iterdir() if child.is_dir() and not (child / _MARK).exists()]
            for child in sorted(folders, key=lambda child: -child.stat().st_mtime_ns)[NETWORKS_KEPT:]:
                shutil.rmtree(child, ignore_errors=True)
                gone.append(child.name)
        return gone

    def _folder(self, digest: str) -> Path:
        return self.folder / check_case_identifier(digest)

    def _file(self, digest: str, case: str) -> Path:
        return self._folder(digest) / f"{check_case_identifier(case)}.npz"
