"""The next commands in full, ready to be copied: every flag that differs from its default, and no other.

Every command that this package prints for people to type comes from here, so names and flags need to be right in only one place.
Nothing heavy is imported until a command is made, because the command line reads this module's defaults for its own flags.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_active.util.errors import MissingInput

DEFAULT_PLANS = "nnUNetActivePlans"
DEFAULT_SIZE, DEFAULT_SLICES = 3, 30
"""Default number of cases or slices of a round."""

SHORT_STEPS, SHORT_TRAINER = 1000, "nnUNetTrainerActiveAdamW"
"""Below this many steps we propose AdamW: nnU-Net's SGD learns little in a few hundred (``benchmarks/results/benchmark_*_sgd.csv``)."""

_TRAINERS = {"mmacts": "nnUNetTrainerMmActS", "assft": "nnUNetTrainerASSFT"}
_STEPS_OF_AN_EPOCH = 250


@dataclass(frozen=True)
class Commands:
    """Command lines for one campaign.

    Attributes:
        dataset: full name.
        configuration: nnU-Net configuration; empty if not known yet: that of the source model.
        plans: plans identifier.
        fold: number as text, or ``all``.
        device: ``cuda``, ``cpu``, ``mps``, or None for this machine's best.
    """

    dataset: str
    configuration: str
    plans: str = DEFAULT_PLANS
    fold: str = "0"
    device: str | None = None

    def plan(self) -> str:
        """Plans from a source model; the user has to name the model."""
        name = [] if self.plans == DEFAULT_PLANS else ["-plans_name", self.plans]
        return self._ours("plan", "-m", "MODEL", *self._configuration(), *name)

    def preprocess(self) -> str:
        """Preprocess what is missing."""
        return self._ours("preprocess", *self._planned())

    def init(self) -> str:
        """Start a campaign whose training queries by itself."""
        return self._ours("init", *self._planned(), *self._fold())

    def select(self, n: int | None = None, *more: str) -> str:
        """The next round of a campaign, or its first one."""
        size = [] if n is None else ["-n", str(n)]
        return self._ours("select", *self._planned(), *self._fold(), *size, *more, *self._named_device())

    def annotate(self) -> str:
        """The hand-off folder of the waiting cases."""
        return self._ours("annotate", *self._fold(), *self._named_device())

    def ingest(self, *more: str) -> str:
        """Take finished labels back."""
        return self._ours("ingest", *self._fold(), *more)

    def next(self) -> str:
        """What to do now."""
        return self._ours("next", *self._fold())

    def train(self, trainer: str, fold: str | None = None, go_on: bool = False) -> str:
        """nnU-Net's own training command."""
        parts = ["nnUNetv2_train", self.short_name(), self.configuration, fold or self.fold, "-tr", trainer]
        return shlex.join([*parts, "-p", self.plans, *self._device(), *(["--c"] if go_on else [])])

    def predict(self, trainer: str, folds: Sequence[str]) -> str:
        """nnU-Net's own prediction command."""
        parts = ["nnUNetv2_predict", "-i", "IN", "-o", "OUT", "-d", self.short_name(), "-c", self.configuration]
        return shlex.join([*parts, "-f", *folds, "-tr", trainer, "-p", self.plans, *self._device()])

    def plan_with_nnunet(self) -> str:
        """nnU-Net's own planning and preprocessing, for a fully labelled data set."""
        return shlex.join(["nnUNetv2_plan_and_preprocess", "-d", self.short_name()])

    def short_name(self) -> str:
        """The data set's number if that is enough to find it."""
        from nnunet_active.nnunet.nnunet_paths import dataset_name

        number = self.dataset.removeprefix("Dataset").split("_")[0]
        try:
            return str(int(number)) if dataset_name(number) == self.dataset else self.dataset
        except (MissingInput, ValueError):
            return self.dataset

    def _ours(self, name: str, *flags: str) -> str:
        return shlex.join(["nnunet_active", name, "-d", self.short_name(), *flags])

    def _planned(self) -> list[str]:
        return [*self._configuration(), *([] if self.plans == DEFAULT_PLANS else ["-p", self.plans])]

    def _configuration(self) -> list[str]:
        return ["-c", self.configuration] if self.configuration else []

    def _fold(self) -> list[str]:
        return [] if self.fold == "0" else ["-f", self.fold]

    def _device(self) -> list[str]:
        """For nnU-Net's commands, which use a GPU unless told otherwise."""
        from nnunet_active.nnunet.devices import best_device

        device = self.device or best_device()
        return [] if device == "cuda" else ["-device", device]

    def _named_device(self) -> list[str]:
        """For our own commands, which use the best device there is."""
        from nnunet_active.nnunet.devices import best_device

        return [] if self.device in (None, best_device()) else ["-device", self.device]


def use_exported(written: Path, trainer: str, commands: Commands, folds: Sequence[str]) -> list[str]:
    """How to predict with what ``export`` wrote (a zip or a model folder) on a machine that has only nnU-Net.

    Args:
        written: zip or folder.
        trainer: the stock trainer that the model is named after.
        commands: of the data set, configuration and plans.
        folds: those that were exported.
    """
    where = ["-i", "IMAGES", "-o", "PREDICTIONS"]
    if written.suffix.lower() != ".zip":
        model = ["-m", written.name, "-f", *folds]
        return [shlex.join(["nnUNetv2_predict_from_modelfolder", *where, *model])]
    model = ["-d", commands.dataset, "-c", commands.configuration, "-tr", trainer, "-p", commands.plans, "-f", *folds]
    return [
        shlex.join(["nnUNetv2_install_pretrained_model_from_zip", written.name]),
        shlex.join(["nnUNetv2_predict", *where, *model]),
    ]


def is_short(epochs: int | None, iterations: int | None) -> bool:
    """Whether a training has fewer than `SHORT_STEPS` steps; None means the trainer's own number, which is never that short."""
    return epochs is not None and epochs * (iterations or _STEPS_OF_AN_EPOCH) < SHORT_STEPS


def why_trainer(trainer: str) -> tuple[str, ...]:
    """Why a trainer is proposed, if its name does not make that plain."""
    if trainer != SHORT_TRAINER:
        return ()
    return (
        f"In fewer than {SHORT_STEPS} steps nnU-Net's SGD learns little; {trainer} takes AdamW, with a learning rate of its own.",
    )


def trainer_for(strategy: str, epochs: int | None = None, iterations: int | None = None) -> str:
    """The trainer that suits a strategy and a schedule.

    mmActS and ASSFT have trainers of their own; any other strategy runs with the plain active trainer. For a short training it is
    the one with AdamW, except for ASSFT: only its own trainer begins each round anew and trains on pseudo-labels.
    """
    if strategy != "assft" and is_short(epochs, iterations):
        return SHORT_TRAINER
    return _TRAINERS.get(strategy, "nnUNetTrainerActive")
