"""Compares the adapted network with the source network it started from, on cases that it was not trained on.

If cases are held out, both networks are measured on these after each round and at the end. If not, they are measured on each newly
labelled case before it is trained on (prequential evaluation, Dawid 1984). A strategy does not choose cases at random, so prequential
numbers describe the cases that are asked for, not the whole pool.

Dice = 2 |A and B| / (|A| + |B|) per foreground label or region, over the whole preprocessed array (nnU-Net's sliding window, no
mirroring, no resampling back); for a partly labelled case, over its labelled voxels. It is missing if A and B are both empty. Only
labels that the campaign knows are opened: those of held-out cases and revealed ones. ``comparison.csv`` holds every number by network,
so that no network runs twice on a case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_active.data.cases import CaseStore, label_state
from nnunet_active.data.label_agreement import compare
from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.nnunet.window import Window
from nnunet_active.training.comparison_table import (
    COLUMNS,
    HELD_OUT,
    PREQUENTIAL,
    SOURCE,
    Gain,
    gain_of,
    is_of_campaign,
    note_campaign,
    of_new_labels,
    of_source,
    read_comparison,
)
from nnunet_active.util.errors import BadCase, MissingInput
from nnunet_active.util.ranks import Ranks
from nnunet_active.util.tables import write_csv


@dataclass(frozen=True)
class Measured:
    """A network to measure.

    Attributes:
        model: ``source``, ``adapted``, or ``alpha A`` for a candidate of the interpolation.
        fingerprint: fingerprint of its weights.
        number: number of rounds whose labels it was trained on.
        epoch: number of epochs it was trained for.
        labelled: number of cases it was trained on.
    """

    model: str
    fingerprint: str
    number: int = 0
    epoch: int = 0
    labelled: int = 0


@dataclass(frozen=True)
class Origin:
    """The campaign and the source network that rows must come from to count.

    Attributes:
        campaign: when the campaign began (``Campaign.begun``).
        source: fingerprint of the source network; None for the one that was measured last.
    """

    campaign: str
    source: str | None = None


class Comparison:
    """``comparison.csv`` of a training: keeps what was measured and measures the rest.

    Args:
        file: its path; the file need not exist.
        store: the preprocessed cases.
        labels: ``labels`` of the target's ``dataset.json``.
        ranks: processes of a distributed training; all call every method in the same order.
        known: folder of the training labels, which hold only what may be known of each case; None for the store's own.
        origin: rows of another origin are left out; None if all rows count.
    """

    def __init__(
        self,
        file: Path,
        store: CaseStore,
        labels: dict,
        ranks: Ranks | None = None,
        known: Path | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.known = store.folder if known is None else known
        self.file, self.store, self.labels, self.ranks = Path(file), store, labels, ranks or Ranks()
        self.origin = origin
        # cache: image and label are read again only if a file of theirs has changed
        self._seen: dict[tuple[Path, str], tuple[tuple, str, bool]] = {}
        self.table = self.ranks.decide(self._read)

    def _read(self) -> pd.DataFrame:
        table = read_comparison(self.file)
        if self.origin is None:
            return table
        if not is_of_campaign(self.file.parent, self.origin.campaign):
            return table.iloc[:0]
        return of_source(table, self.origin.source)

    def take_over(self, labelled: Sequence[str]) -> None:
        """When a training begins or resumes, drop the rows that no longer count, before new rows can be mixed up with them.

        Args:
            labelled: cases that may be trained on, including newly labelled ones and those that cross-fitting left out.
        """
        now = self.of_now()
        self.table = now[(now["kind"] == HELD_OUT) | now["case"].isin(labelled)].reset_index(drop=True)
        self.ranks.decide(self._own)

    def _own(self) -> None:
        if len(read_comparison(self.file)) > len(self.table):
            self._write()
        if self.origin is not None:
            note_campaign(self.file.parent, self.origin.campaign)

    def of_now(self) -> pd.DataFrame:
        """Rows whose image and label have not changed since they were measured. A label drawn slice by slice may have grown."""
        changed = self.ranks.decide(self._changed)
        keys = zip(self.table["kind"], self.table["case"], self.table["reference"], strict=True)
        return self.table[np.array([key not in changed for key in keys], dtype=bool)].reset_index(drop=True)

    def _changed(self) -> set[tuple[str, str, str]]:
        """Kind, case and reference of rows whose label was corrected, or whose image was replaced."""
        found = set()
        rows = self.table[["kind", "case", "reference"]].drop_duplicates()
        for (kind, case), of_case in rows.groupby(["kind", "case"]):
            try:
                now, in_part = self._as_it_is(case, kind)
            except (BadCase, MissingInput):
                continue  # reported when it is trained on
            found |= {(kind, case, one) for one in of_case["reference"] if not _is_still(one, now, in_part)}
        return found

    def begin(self) -> None:
        """Start a training at epoch 0: drop the held-out rows of an earlier training's network, and mark what that training measured
        on new labels as older than anything of this one."""
        old = (self.table["kind"] == HELD_OUT) & (self.table["model"] != SOURCE)
        self.table = self.table[~old].reset_index(drop=True)
        earlier = (self.table["kind"] == PREQUENTIAL) & (self.table["epoch"] != 0)
        if earlier.any():
            self.table.loc[earlier, "epoch"] = 0
            self.ranks.decide(self._write)

    def forget(self, kind: str) -> None:
        """Drop all rows of a kind."""
        of_kind = self.table["kind"] == kind
        if of_kind.any():
            self.table = self.table[~of_kind].reset_index(drop=True)
            self.ranks.decide(self._write)

    def measure(self, window: Window, network: Measured, cases: Sequence[str], kind: str) -> None:
        """Measure a network on cases with a known label. Earlier results of the same network are reused.

        Args:
            window: predicts with the network.
            network: describes the network.
            cases: held-out cases, or labelled cases that it was not trained on.
            kind: ``held_out``, ``prequential`` or ``cross_fit``.
        """
        same = self.table[self.table["network"] == network.fingerprint]
        known = dict(iter(same.groupby(["case", "reference"])))
        found: dict[str, tuple[str, dict[str, float | None]]] = {}
        mine = self.ranks.mine(sorted(cases))
        for part in self.ranks.from_each(lambda: {case: self._dice(window, case, kind, known) for case in mine}):
            found.update(part)
        rows = []
        for case, (reference, dice) in sorted(found.items()):
            trained = (network.number, network.epoch, network.labelled)
            at = (kind, *trained, network.model, network.fingerprint, case, reference)
            rows += [(*at, label, value) for label, value in dice.items()]
        if not rows:
            return
        new = pd.DataFrame(rows, columns=COLUMNS).astype({"dice": float})
        parts = [part for part in (self.table, new) if not part.empty]
        rows = pd.concat(parts)
        # keep one row per case of the source; of an adapted network one per round (held out), or one in all (other kinds)
        rounds = (rows["kind"] == HELD_OUT) & (rows["model"] != SOURCE)
        key = rows[["kind", "model", "case", "label"]].assign(
            round=rows["round"].where(rounds, -1), epoch=rows["epoch"].where(rounds, -1)
        )
        self.table = rows[~key.duplicated(keep="last")].reset_index(drop=True)
        self.ranks.decide(self._write)

    def gain(self, kind: str, number: int | None = None, epoch: int | None = None) -> Gain:
        """For held-out cases, the gain after ``number`` rounds and ``epoch`` epochs; for new labels, that over all of them so far."""
        if kind == HELD_OUT:
            return gain_of(self.held_out(number, epoch), kind)
        return gain_of(of_new_labels(self.of_now()), kind)

    def held_out(self, number: int, epoch: int) -> pd.DataFrame:
        """Rows of the held-out cases for the source network, and for networks after ``number`` rounds and ``epoch`` epochs."""
        rows = self.table[self.table["kind"] == HELD_OUT]
        return rows[(rows["model"] == SOURCE) | ((rows["round"] == number) & (rows["epoch"] == epoch))]

    def reference(self, case: str, kind: str) -> tuple[np.ndarray, str]:
        """A label (Z, Y, X), and a fingerprint of it and of the image, which shows whether either changes later.

        Args:
            case: a labelled case.
            kind: kind of comparison; ``held_out`` reads the whole stored label.

        Raises:
            BadCase: the case's files cannot be read.
        """
        label = self._label(case, kind)
        return label, _fingerprint(label, self.store.load_image(case))

    def _label(self, case: str, kind: str) -> np.ndarray:
        return np.ascontiguousarray(read_label_map(self._folder(kind), case)[0])

    def _folder(self, kind: str) -> Path:
        return self.store.folder if kind == HELD_OUT else self.known

    def _as_it_is(self, case: str, kind: str) -> tuple[str, bool]:
        """The current fingerprint, and whether the label covers the case only in part (has ignored voxels)."""
        key = self._folder(kind), case
        state = label_state(*key), self.store.image_state(case)
        if key not in self._seen or self._seen[key][0] != state:
            label, fingerprint = self.reference(case, kind)
            ignore = self.labels.get("ignore")
            self._seen[key] = state, fingerprint, ignore is not None and bool((label == ignore).any())
        return self._seen[key][1:]

    def _dice(self, window: Window, case: str, kind: str, known: dict) -> tuple[str, dict[str, float | None]]:
        reference, image = self._label(case, kind), self.store.load_image(case)
        digest = _fingerprint(reference, image)
        if (case, digest) in known:
            rows = known[case, digest].drop_duplicates("label")
            return digest, dict(zip(rows["label"], rows["dice"], strict=True))
        predicted = window.label_map(image)
        return digest, compare(reference, predicted, self.labels, 1.0)["dice"]

    def _write(self) -> None:
        write_csv(self.file, self.table)


def _fingerprint(label: np.ndarray, image: np.ndarray) -> str:
    return "-".join(hashlib.blake2b(array, digest_size=8).hexdigest() for array in (label, image))


def _is_still(recorded: str, now: str, in_part: bool) -> bool:
    """Whether a recorded fingerprint is that of now; earlier versions recorded none of the image. ``in_part``: the label may grow."""
    (label, _, image), (label_now, _, image_now) = recorded.partition("-"), now.partition("-")
    return (in_part or label == label_now) and image in ("", image_now)
