"""Settings of a campaign, which ``nnunet_active init`` sets and the trainers read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nnunet_active.commands import trainer_for
from nnunet_active.data.patients import Patients
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.strategy_files import found_from_anywhere

DEFAULT_STRATEGY = "foreground_random"
"""Default of ``init`` and ``select``; the papers' trainers keep their own. No strategy was certainly better (``docs/measured.md``)."""

ORACLES = ("retrospective", "folder")
MODALITIES = ("zero", "replicate")
RESTARTS = ("never", "source")
UNITS = ("case", "slice")
SLICE_RULES = ("spread", "centre", "random")
SLICE_AXES = ("auto", "x", "y", "z")
PER_CASE = 3
_OF_SLICES = ("unit", "per_case", "slices", "axis")


MOST, MOST_FOLDS = 1_000_000, 100
"""Upper limits of counts. Nobody needs more, and larger values would fill the memory."""


@dataclass(frozen=True)
class Settings:
    """How a campaign queries and trains. The defaults are mmActS's published ones, except for the strategy.

    Attributes:
        strategy: name of a registered query strategy.
        strategy_options: keyword arguments of the strategy.
        oracle: ``retrospective`` (labels exist, each is withheld until queried) or ``folder`` (a label counts once its file is in
            ``labelsTr``).
        unit: what is asked for and counted: ``case`` (the whole scan) or ``slice``.
        budget: total number of cases or slices to query.
        query_size: cases or slices per query.
        per_case: most slices of one case in a query.
        slices: rule for choosing slices in a case; see :mod:`nnunet_active.strategies.slice_choice`.
        axis: slice axis of the stored image: ``x``, ``y``, ``z``, or ``auto`` for the axis with the largest spacing, else z.
        one_off: take the whole budget in the first query.
        stride: epochs between two queries.
        epochs: length of the training; None leaves it to the trainer class.
        iterations: training iterations per epoch; None leaves it to the trainer class.
        val_iterations: validation iterations per epoch; None leaves it to the trainer class.
        initial_lr: initial learning rate of the single poly schedule over all epochs; None leaves it to the trainer class, since a
            rate that suits SGD is ten times too high for AdamW.
        modality: how the other channels are filled when one channel alone is shown to the network, to elect the dominant modality
            (``zero``, ``replicate``).
        wait: with the folder oracle, wait for the labels instead of stopping.
        fine_tuning: keyword arguments of :class:`~nnunet_active.campaign.fine_tuning.FineTuning`; empty: the papers' plain recipe.
        pseudo_labels: keyword arguments of :class:`~nnunet_active.campaign.pseudo_label_settings.PseudoLabelSettings`; None leaves
            semi-supervised training to the trainer class (off except for ASSFT).
        restart: at each query of a training, go on (``never``) or begin again from the source weights (``source``); None leaves it
            to the trainer class.
        folds: number of folds of a cross-validation among the labelled cases; 1 for none.
        groups: which cases belong together, as in :meth:`~nnunet_active.data.patients.Patients.to_json`; empty if none do.
        seed: seed of the strategy, and of the training where nnU-Net's augmentation runs in the main process.
    """

    strategy: str = DEFAULT_STRATEGY
    strategy_options: dict[str, Any] = field(default_factory=dict)
    oracle: str = "retrospective"
    budget: int = 3
    query_size: int = 1
    one_off: bool = False
    stride: int = 40
    epochs: int | None = None
    iterations: int | None = None
    val_iterations: int | None = None
    initial_lr: float | None = None
    modality: str = "zero"
    wait: bool = False
    fine_tuning: dict[str, Any] = field(default_factory=dict)
    pseudo_labels: dict[str, Any] | None = None
    restart: str | None = None
    folds: int = 1
    groups: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    unit: str = UNITS[0]
    per_case: int = PER_CASE
    slices: str = SLICE_RULES[0]
    axis: str = SLICE_AXES[0]

    def __post_init__(self) -> None:
        for name in ("budget", "query_size", "stride", "epochs", "iterations", "val_iterations", "folds", "per_case"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CampaignError(f"--{name.replace('_', '-')} {value} makes no sense; it must be at least 1.")
            most = MOST_FOLDS if name == "folds" else MOST
            if value is not None and value > most:
                raise CampaignError(f"--{name.replace('_', '-')} {value} makes no sense; it can be at most {most}.")
        if self.initial_lr is not None and not 0 < self.initial_lr < math.inf:
            raise CampaignError(
                f"The initial learning rate {self.initial_lr} (--lr) makes no sense; it must be positive and finite."
            )
        if self.oracle not in ORACLES:
            raise CampaignError(f"--oracle {self.oracle} is unknown; choose one of {', '.join(ORACLES)}.")
        if self.modality not in MODALITIES:
            raise CampaignError(f"--modality {self.modality} is unknown; choose one of {', '.join(MODALITIES)}.")
        if self.restart is not None and self.restart not in RESTARTS:
            raise CampaignError(f"--restart-from {self.restart} is unknown; choose one of {', '.join(RESTARTS)}.")
        for name, known in (("unit", UNITS), ("slices", SLICE_RULES), ("axis", SLICE_AXES)):
            if getattr(self, name) not in known:
                raise CampaignError(f"--{name} {getattr(self, name)} is unknown; choose one of {', '.join(known)}.")
        Patients.from_json(self.groups)
        for name in ("strategy", "strategy_options"):  # the training may be started in another folder
            object.__setattr__(self, name, found_from_anywhere(getattr(self, name)))
        if self.epochs is not None:
            self.check_reach(self.epochs)

    def check_reach(self, epochs: int) -> None:
        """Check that a training of that many epochs reaches the last query.

        Raises:
            CampaignError: the training ends before.
        """
        last = self.epoch_of_query(self.queries)
        if last >= epochs:
            raise CampaignError(
                f"{self.queries} queries every {self.stride} epochs reach epoch {last}, but the training ends after "
                f"{epochs} epochs; raise --epochs, or lower --stride or --budget."
            )

    @property
    def in_slices(self) -> bool:
        """Whether slices are asked for, so that a case may be asked for again."""
        return self.unit == "slice"

    @property
    def patients(self) -> Patients:
        """Which cases belong together."""
        return Patients.from_json(self.groups)

    @property
    def labels_are_withheld(self) -> bool:
        """Whether all labels exist and each is withheld until asked for; otherwise people make them."""
        return self.oracle == "retrospective"

    @property
    def trainer(self) -> str:
        """The trainer in the printed commands; see :func:`~nnunet_active.commands.trainer_for`."""
        return trainer_for(self.strategy, self.epochs, self.iterations)

    @property
    def queries(self) -> int:
        """Number of queries that spend the budget."""
        return 1 if self.one_off else math.ceil(self.budget / self.query_size)

    def epoch_of_query(self, number: int) -> int:
        """Epoch before which query ``number`` (1, 2, ...) is made: 0, stride, 2 stride, ..."""
        return (number - 1) * self.stride

    def to_json(self) -> dict[str, Any]:
        """The settings as written into ``campaign.json``; settings of slices and groups are left out if not used."""
        left_out = {*(_OF_SLICES if self.unit == UNITS[0] else ()), *(() if self.groups else ("groups",))}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Settings:
        """Read the settings back; unknown ones from a later version are ignored."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


def refuse_unknown(options: Mapping[str, Any], of: type, sentence: str) -> None:
    """Check that every option is a field of a dataclass.

    Args:
        options: options by name.
        of: the dataclass.
        sentence: how the error message begins, with ``{}`` for the unknown names.

    Raises:
        CampaignError: an option is unknown; the message lists the fields.
    """
    known = [entry.name for entry in fields(of)]
    if unknown := sorted(set(options) - set(known)):
        raise CampaignError(f"{sentence.format(', '.join(unknown))}; those there are: {', '.join(known)}.")


def check_slice_settings(given: Mapping[str, Any], unit: str) -> None:
    """Refuse settings of slices where whole cases are asked for.

    Args:
        given: settings that the user named.
        unit: ``case`` or ``slice``; empty if it is not known.

    Raises:
        CampaignError: names the first of them.
    """
    if unit == UNITS[0] and (others := sorted(given.keys() & set(_OF_SLICES) - {"unit"})):
        raise CampaignError(
            f"--{others[0].replace('_', '-')} says something of slices; leave it out, or add --unit slice."
        )
