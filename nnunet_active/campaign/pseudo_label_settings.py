"""Settings of the semi-supervised part of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_active.campaign.settings import refuse_unknown
from nnunet_active.scoring.reliability import RULES
from nnunet_active.util.errors import CampaignError


@dataclass(frozen=True)
class PseudoLabelSettings:
    """Which pseudo-labels are used, and how much of the training they get.

    Attributes:
        rule: ``rank`` or ``threshold``, see :mod:`nnunet_active.scoring.reliability`.
        confident_fraction: q of ``rank``: the most confident share of the cases.
        nearer_fraction: of ``rank``: the share of the cases that is nearest to the labelled ones.
        tau_c: least confidence of ``threshold``.
        tau_d: greatest cosine distance to a labelled case of ``threshold``; it depends on the network, look at a table first.
        share: share of the training samples that come from pseudo-labelled cases, once there are any. s / (1 - s) is the weight w of
            their loss beside that of the labelled ones: 0.5 is w = 1.
        labelled_fraction: part of each round's epochs, at its beginning, that is trained on labels alone.
        allow_empty: a case in which nothing is predicted can be reliable.

    Raises:
        CampaignError: a value that makes no sense.
    """

    rule: str = "rank"
    confident_fraction: float = 0.5
    nearer_fraction: float = 0.5
    tau_c: float = 0.9
    tau_d: float = 0.5
    share: float = 0.5
    labelled_fraction: float = 0.5
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise CampaignError(f"The rule for pseudo-labels is '{self.rule}'; choose one of {', '.join(RULES)}.")
        limits = {
            "confident_fraction": 1,
            "nearer_fraction": 1,
            "tau_c": 1,
            "tau_d": 2,
            "share": 1,
            "labelled_fraction": 1,
        }
        for name, highest in limits.items():
            if not 0 <= getattr(self, name) <= highest:
                raise CampaignError(
                    f"The setting {name} of pseudo-labels is {getattr(self, name)}; it must be between 0 and {highest}."
                )
        if self.share == 1:
            raise CampaignError(
                "The setting share of pseudo-labels is 1, which would leave no labelled sample; lower it."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> PseudoLabelSettings | None:
        """From the ``pseudo_labels`` of a campaign's settings: None, or a share of 0, is no semi-supervised training.

        Raises:
            CampaignError: an unknown setting, or a value that makes no sense.
        """
        refuse_unknown(options or {}, cls, "There is no setting {} of pseudo-labels")
        return cls(**options) if options is not None and options.get("share") != 0 else None
