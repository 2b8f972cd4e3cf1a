"""Settings of the semi-supervised part of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_active.campaign.settings import refuse_unknown
from nnunet_active.util.errors import CampaignError

REMOVED = ("rule", "tau_c", "tau_d")
"""Settings of earlier versions. The only rule besides ``rank``, by thresholds, was not the paper's and never measured."""


@dataclass(frozen=True)
class PseudoLabelSettings:
    """Which pseudo-labels to use, and their share of the training.

    Attributes:
        confident_fraction: q, the share of most confident cases (:mod:`nnunet_active.scoring.reliability`).
        nearer_fraction: f, the share of cases nearest to the labelled ones.
        share: s, the share of training samples from pseudo-labelled cases, once there are any. It gives their loss the weight
            w = s / (1 - s) relative to the labelled cases' loss: s = 0.5 is w = 1.
        labelled_fraction: the first part of each round's epochs, trained on labels alone.
        allow_empty: whether a case with an empty prediction can be reliable.

    Raises:
        CampaignError: a value is not valid.
    """

    confident_fraction: float = 0.5
    nearer_fraction: float = 0.5
    share: float = 0.5
    labelled_fraction: float = 0.5
    allow_empty: bool = False

    def __post_init__(self) -> None:
        for name in ("confident_fraction", "nearer_fraction", "share", "labelled_fraction"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise CampaignError(
                    f"The setting {name} of pseudo-labels is {value!r}; it must be a number between 0 and 1."
                )
        if not isinstance(self.allow_empty, bool):
            raise CampaignError(
                f"The setting allow_empty of pseudo-labels is {self.allow_empty!r}; it is true or false."
            )
        if self.share == 1:
            raise CampaignError(
                "The setting share of pseudo-labels is 1, which would leave no labelled sample; lower it."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> PseudoLabelSettings | None:
        """From the ``pseudo_labels`` of a campaign's settings; None, or a share of 0, means no semi-supervised training.

        Raises:
            CampaignError: a setting is unknown, is an earlier version's other rule, or has a value that is not valid.
        """
        if options and options.get("rule", "rank") != "rank":
            raise CampaignError(
                f"The rule '{options['rule']}' for pseudo-labels is no longer there; set shares instead, confident_fraction and "
                f"nearer_fraction. In an earlier campaign take 'rule', 'tau_c' and 'tau_d' out of 'pseudo_labels' in campaign.json."
            )
        options = options and {name: value for name, value in options.items() if name not in REMOVED}
        refuse_unknown(options or {}, cls, "There is no setting {} of pseudo-labels")
        return cls(**options) if options is not None and options.get("share") != 0 else None
