"""Is the adapted network better than the source network it started from? Measured on cases that it was not trained on.

Where cases are held out: on these, after each round and at the end. Where none are: on each case whose label has just come in, before
it is trained on (prequential evaluation, Dawid 1984). A case that a strategy chose is not a random one, so that these numbers say how
the network does on what is asked for, not on the whole pool.

Dice = 2 |A and B| / (|A| + |B|) of the whole preprocessed array (nnU-Net's sliding window, no mirroring, no resampling back), of a
partly labelled case over its labelled voxels, per foreground label or region; missing where both are empty. Only labels that are known
to the campaign are opened: those of held-out cases and of revealed ones. ``comparison.csv`` holds every number, by network, so that no
network is run twice on a case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.label_agreement import compare
from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.nnunet.inference import Window
from nnunet_active.pseudo.pseudo_label_writer import label_map
from nnunet_active.util.ranks import Ranks
from nnunet_active.util.tables import read_csv, write_csv

FILE = "comparison.csv"
COLUMNS = ["kind", "round", "epoch", "labelled", "model", "network", "case", "reference", "label", "dice"]
HELD_OUT, PREQUENTIAL = "held_out", "prequential"
SOURCE, ADAPTED = "source", "adapted"
CONFIDENCE = 0.95
NOTICEABLE = 0.01
"""Loss of Dice in a single label from which on it is worth a warning (our choice)."""


@dataclass(frozen=True)
class Measured:
    """A network that is measured.

    Attributes:
        model: ``source``, ``adapted``, or ``alpha A`` for a candidate of the interpolation.
        fingerprint: of its weights.
        number: rounds whose labels it was trained on.
        epoch: epochs it was trained for.
        labelled: cases it was trained on.
    """

    model: str
    fingerprint: str
    number: int = 0
    epoch: int = 0
    labelled: int = 0


@dataclass(frozen=True)
class Gain:
    """What a comparison says: by how much the adapted network is better than the source network, or worse.

    Attributes:
        kind: ``held_out`` or ``prequential``.
        cases: number of cases that both networks were measured on.
        source, adapted: mean over cases of the mean Dice over labels.
        worse: cases in which the adapted network is worse.
        bound: with 95 % confidence the mean difference (adapted - source) is above this (one-sided paired t); NaN below 3 cases.
        labels: of several labels those whose mean Dice has fallen by more than `NOTICEABLE`, with the difference.
    """

    kind: str
    cases: int
    source: float
    adapted: float
    worse: int
    bound: float
    labels: dict[str, float]

    @property
    def is_worse(self) -> bool:
        """Whether the adapted network is worse on these cases, on average."""
        return self.cases > 0 and self.adapted < self.source

    def lines(self) -> list[str]:
        """For people; the first line is the result, further ones are warnings."""
        if not self.cases:
            return [
                "WARNING: it is not known whether the adapted network is better than the source network: no labelled case is held "
                "out, and none has come in that the network was not trained on."
            ]
        what = "held-out cases" if self.kind == HELD_OUT else "cases before they were trained on"
        lines = [
            f"Source against adapted network on {self.cases} {what}: mean Dice {self.source:.4f} -> {self.adapted:.4f} "
            f"({self.adapted - self.source:+.4f}; worse in {self.worse} of {self.cases})."
        ]
        if self.is_worse:
            gentler = "held_out" if self.kind == HELD_OUT else "interpolated"
            lines.append(
                "WARNING: on these cases the adapted network is worse than the source network that it started from. Keep the source "
                f"network, or fine-tune more gently (nnunet_active init --recipe {gentler} --restart)."
            )
        for label, loss in self.labels.items():
            lines.append(f"WARNING: the adapted network is worse in {label}: mean Dice {loss:+.4f}.")
        if not self.is_worse and not self.bound >= 0:
            few = (
                f"only {self.cases} cases" if self.cases < 3 else f"95 % bound of the mean difference {self.bound:+.4f}"
            )
            lines.append(
                f"WARNING: the adapted network may be worse on new cases; the difference is within chance ({few})."
            )
        return lines


def gain_of(table: pd.DataFrame, kind: str) -> Gain:
    """What rows of one comparison say (columns of ``comparison.csv``; one row per model, case and label)."""
    by_label = dice_by_label(table, [SOURCE, ADAPTED])
    by_case = by_label.groupby("case").mean()
    difference = (by_case[ADAPTED] - by_case[SOURCE]).to_numpy()
    losses = by_label.groupby("label").mean()
    losses = losses[ADAPTED] - losses[SOURCE]
    n = len(difference)
    bound = float("nan")
    if n >= 3 and np.ptp(difference) < 1e-12:  # equal in every case: nothing that a test could be uncertain of
        bound = float(difference.mean())
    elif n >= 3:
        test = stats.ttest_1samp(difference, 0.0, alternative="greater")
        bound = float(test.confidence_interval(CONFIDENCE).low)
    return Gain(
        kind,
        n,
        float(by_case[SOURCE].mean()),
        float(by_case[ADAPTED].mean()),
        int((difference < 0).sum()),
        bound,
        {str(label): float(loss) for label, loss in losses.items() if loss < -NOTICEABLE and len(losses) > 1},
    )


def dice_by_case(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Mean Dice over labels, one row per case that all ``models`` were measured on, one column per model."""
    return dice_by_label(table, models).groupby("case").mean()


def dice_by_label(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Dice by case and label that all ``models`` were measured on, one column per model."""
    found = [table[table["model"] == model].set_index(["case", "label"])["dice"] for model in models]
    by_label = pd.concat(found, axis=1, keys=list(models), join="inner")
    # a label that is neither there nor found by any network says nothing; one that is rightly not found by one of them is a hit
    return by_label.dropna(how="all").fillna(1.0)


def read_comparison(file: Path) -> pd.DataFrame:
    """Content of a ``comparison.csv``; empty where there is none yet, or a damaged one (everything is then measured again)."""
    texts = dict.fromkeys(("case", "network", "reference", "label"), str)
    how = {"dtype": texts, "keep_default_na": False, "na_values": {"dice": [""]}}
    try:
        return read_csv(file, **how)[COLUMNS]
    except (OSError, ValueError, KeyError):
        return pd.DataFrame(columns=COLUMNS)


class Comparison:
    """``comparison.csv`` of a training: what was measured, and what still has to be.

    Args:
        file: where it is; need not exist.
        store: the preprocessed cases.
        labels: ``labels`` of the target's ``dataset.json``.
        ranks: processes of a distributed training; all call every method in the same order.
        known: folder of the labels that are trained on, where that is not the store's own: all of each label that may be looked at.
    """

    def __init__(
        self,
        file: Path,
        store: CaseStore,
        labels: dict,
        ranks: Ranks | None = None,
        known: Path | None = None,
    ) -> None:
        self.known = store.folder if known is None else known
        self.file, self.store, self.labels, self.ranks = Path(file), store, labels, ranks or Ranks()
        self.table = self.ranks.decide(lambda: read_comparison(self.file))

    def begin(self) -> None:
        """A training from the first epoch on: what an earlier one measured of its own network on held-out cases is history."""
        old = (self.table["kind"] == HELD_OUT) & (self.table["model"] != SOURCE)
        self.table = self.table[~old].reset_index(drop=True)

    def measure(self, window: Window, network: Measured, cases: Sequence[str], kind: str) -> None:
        """Measure a network on cases with a known label; what is known of this network already is not computed again.

        Args:
            window: predicts by the network.
            network: what is known of it.
            cases: held-out cases, or newly labelled ones that it was not trained on.
            kind: ``held_out`` or ``prequential``.
        """
        same = self.table[self.table["network"] == network.fingerprint]
        known = dict(iter(same.groupby(["case", "reference"])))
        folder = self.known if kind == PREQUENTIAL else self.store.folder
        found: dict[str, tuple[str, dict[str, float | None]]] = {}
        for part in self.ranks.gather(
            {case: self._dice(window, case, folder, known) for case in self.ranks.mine(sorted(cases))}
        ):
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
        # the source is measured once on a case; an adapted network once per round, or once before a case is trained on
        rounds = (rows["kind"] == HELD_OUT) & (rows["model"] != SOURCE)
        key = rows[["kind", "model", "case", "label"]].assign(
            round=rows["round"].where(rounds, -1), epoch=rows["epoch"].where(rounds, -1)
        )
        self.table = rows[~key.duplicated(keep="last")].reset_index(drop=True)
        self.ranks.decide(self._write)

    def gain(self, kind: str, number: int | None = None, epoch: int | None = None) -> Gain:
        """Held-out cases: the network after so many rounds and epochs; prequential: every case so far, each by its network."""
        return gain_of(
            self.held_out(number, epoch) if kind == HELD_OUT else self.table[self.table["kind"] == kind], kind
        )

    def held_out(self, number: int, epoch: int) -> pd.DataFrame:
        """Rows of the held-out cases: of the source network, and of networks after so many rounds and epochs."""
        rows = self.table[self.table["kind"] == HELD_OUT]
        return rows[(rows["model"] == SOURCE) | ((rows["round"] == number) & (rows["epoch"] == epoch))]

    def _dice(self, window: Window, case: str, folder: Path, known: dict) -> tuple[str, dict[str, float | None]]:
        reference = np.ascontiguousarray(read_label_map(folder, case)[0])
        digest = hashlib.blake2b(reference.tobytes(), digest_size=8).hexdigest()  # a label may be corrected later
        if (case, digest) in known:
            rows = known[case, digest].drop_duplicates("label")
            return digest, dict(zip(rows["label"], rows["dice"], strict=True))
        predicted = label_map(window.logits(self.store.load_image(case)), window)
        return digest, compare(reference, predicted, self.labels, 1.0)["dice"]

    def _write(self) -> None:
        write_csv(self.file, self.table)
