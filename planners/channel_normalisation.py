"""How the target's channels are normalised, so that the source's network gets the kind of input it was trained on."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import nnunetv2
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_active.models.name_mapping import ChannelMapping
from nnunet_active.util.errors import IncompatibleSource


def map_normalisation(
    manager: PlansManager, configuration: dict, channels: ChannelMapping, notes: list[str]
) -> dict[str, dict]:
    """Set schemes and masks of the target's channels in ``configuration`` and return their intensity statistics.

    A target channel gets the scheme of the source channel that feeds it; channels that share the source's stem get that of
    the source's first channel. A channel without a counterpart (zero weights at first) gets the scheme that nnU-Net
    derives from its name, but ``ZScoreNormalization`` instead of ``CTNormalization``, which needs statistics that
    nobody has; its own statistics are empty, because no other scheme reads them (our choice).

    Args:
        manager: the source's plans.
        configuration: the source's configuration, resolved; changed in place.
        channels: which source channel feeds which target channel.
        notes: receives sentences about what could not be kept.

    Returns:
        Target channel number (as a string, as in nnU-Net) -> statistics.

    Raises:
        IncompatibleSource: the source uses a scheme that stock nnU-Net does not have.
    """
    schemes, masks = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    try:
        known = manager.foreground_intensity_properties_per_channel
    except KeyError:
        known = {}
    feeding = [0] * len(channels.target) if channels.kind == "shared" else list(channels.indices)
    new_schemes, new_masks, statistics = [], [], {}
    for i, (name, j) in enumerate(zip(channels.target, feeding, strict=True)):
        scheme = get_normalization_scheme(name).__name__ if j is None else schemes[j]
        statistics[str(i)] = {} if j is None else dict(known.get(str(j), {}))
        if scheme == "CTNormalization" and not statistics[str(i)]:
            scheme = "ZScoreNormalization"
            notes.append(f"There are no CT intensity statistics for the channel {name}; it gets {scheme}.")
        if _stock_scheme(scheme) is None:
            raise IncompatibleSource(
                f"The source normalises with {scheme}, which nnU-Net {version('nnunetv2')} does not have; "
                f"install the nnU-Net that the source was trained with, or use another source model."
            )
        new_schemes.append(scheme)
        new_masks.append(any(masks) if j is None else masks[j])
    if channels.kind == "shared" and len({(scheme, mask) for scheme, mask in zip(schemes, masks, strict=True)}) > 1:
        notes.append(f"All channels are normalised as the source's first channel, {channels.source[0]}.")
    configuration["normalization_schemes"], configuration["use_mask_for_norm"] = new_schemes, new_masks
    return statistics


def _stock_scheme(name: str) -> type | None:
    folder = Path(nnunetv2.__path__[0], "preprocessing", "normalization")
    return recursive_find_python_class(str(folder), name, "nnunetv2.preprocessing.normalization")
