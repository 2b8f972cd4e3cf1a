r"""Dominant modality of a case (mmActS): the single channel whose prediction comes closest to that from all channels.

``m* = argmax_m Dice(network(x^m), y)``, with ``y = network(x)`` [paper]. How to feed one modality to a network with M input
channels is not published. Our choice: keep channel m and set the others to 0, the mean of a z-scored image (``"zero"``), or
copy channel m into every channel (``"replicate"``). With several classes: the mean Dice over the classes present in y (our choice).
It tells the annotator which scan to open first; training uses all channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ModalityElection:
    """Result of one election.

    Attributes:
        channel: index of the dominant channel.
        dice: (M,) mean foreground Dice of each channel alone with the prediction from all channels.
        decided: False if the Dice do not show which channel shows the target best: every Dice is 0 (nothing predicted or
            nothing in common), or one channel alone gives exactly the full prediction because the others have no weight (a source
            network that has never seen them).
    """

    channel: int
    dice: tuple[float, ...]
    decided: bool

    @classmethod
    def of(cls, dice: tuple[float, ...]) -> ModalityElection:
        """The election with these Dice (M,); the lower channel wins a tie.

        >>> ModalityElection.of((0.25, 0.75)), ModalityElection.of((1.0, 1.0)).decided, ModalityElection.of((1.0,)).decided
        (ModalityElection(channel=1, dice=(0.25, 0.75), decided=True), False, True)
        """
        return cls(int(np.argmax(dice)), dice, len(dice) == 1 or 0 < max(dice) < 1)


def keep_one_channel(image: np.ndarray, channel: int, how: str = "zero") -> np.ndarray:
    """A copy of ``image`` (M, Z, Y, X) that keeps the information of ``channel`` only.

    Args:
        image: normalised image.
        channel: index of the channel to keep.
        how: ``"zero"`` sets the others to 0, ``"replicate"`` copies the channel into all.

    Raises:
        ValueError: unknown ``how``.
    """
    if how == "replicate":
        return np.repeat(image[channel : channel + 1], image.shape[0], axis=0)
    if how != "zero":
        raise ValueError(f"how must be 'zero' or 'replicate', not {how!r}")
    alone = np.zeros_like(image)
    alone[channel] = image[channel]
    return alone


def mean_class_dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Mean Dice over the foreground classes present in ``reference``; 0 if there are none.

    Args:
        prediction: integer class map of any shape, with 0 for background; or (R, ...) bool for R overlapping regions.
        reference: like ``prediction``.
    """
    if reference.dtype == bool:
        pairs = [(prediction[r], reference[r]) for r in range(len(reference)) if reference[r].any()]
    else:
        pairs = [(prediction == c, reference == c) for c in np.unique(reference) if c != 0]
    if not pairs:
        return 0.0
    return float(np.mean([2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)) for a, b in pairs]))


def elect_dominant_modality(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, how: str = "zero"
) -> ModalityElection:
    """Elect the dominant channel with M + 1 predictions of one case; the lower channel wins a tie.

    Args:
        predict: maps an image (M, Z, Y, X) to an integer class map, or to a bool array (R, ...) for region-based networks.
        image: normalised image (M, Z, Y, X).
        how: see :func:`keep_one_channel`.
    """
    if image.shape[0] == 1:
        return ModalityElection.of((1.0,))
    reference = predict(image)
    dice = tuple(mean_class_dice(predict(keep_one_channel(image, m, how)), reference) for m in range(image.shape[0]))
    return ModalityElection.of(dice)
