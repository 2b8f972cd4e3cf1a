"""Loads the network that an earlier training of the same fold left behind. It has not seen the labels that came in since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_active.nnunet.safe_checkpoint import load_checkpoint, network_weights, weights_digest
from nnunet_active.training.checkpoints import FINAL, PREVIOUS, own_details
from nnunet_active.training.comparison_table import is_written_since
from nnunet_active.training.weights import Weights
from nnunet_active.util.errors import ActiveError
from nnunet_active.util.log import Log


@dataclass(frozen=True)
class EarlierTraining:
    """The content of an earlier training's checkpoint, or the same facts of a cross-fit network, which has no checkpoint.

    Attributes:
        predicting: the weights that predict.
        trained: the trained weights, or their average: alpha = 1 of the interpolation.
        labelled: cases that the network was trained on.
        epoch: number of epochs that it was trained for.
    """

    predicting: Weights
    trained: Weights
    labelled: frozenset[str]
    epoch: int


def origin_of(source: Weights, begun: str) -> dict[str, str]:
    """The source network and campaign of a training, as its checkpoint records them.

    Args:
        source: weights of the source network.
        begun: when the campaign began; empty if not known.
    """
    return {"source": weights_digest(source), **({"campaign": begun} if begun else {})}


def earlier_training(folder: Path, source: Weights, log: Log, begun: str = "") -> EarlierTraining | None:
    """The earlier training in a fold's folder; None if there is none of this campaign, this package and this source network.

    Args:
        folder: where the fold's checkpoints are.
        source: weights of the source network; the earlier training's must have the same shapes.
        log: gets a warning if the checkpoint cannot be read.
        begun: when the campaign began; empty if not known.
    """
    file = next((folder / name for name in (FINAL, PREVIOUS) if (folder / name).is_file()), None)
    if file is None or not is_written_since(file, begun):
        return None
    try:
        checkpoint = load_checkpoint(file, str(file))
        predicting, details = network_weights(checkpoint, str(file)), own_details(checkpoint)
        here = origin_of(source, begun)
        other = {name for name, value in here.items() if details.get(name, value) != value}
        if other == {"source"}:
            log(
                "WARNING: the training before began from another source network, so the two are not compared. If a stock training "
                "replaced the source since, it may know the labels that were asked for: name the source with -m at init."
            )
        if other:
            return None
        labelled, epoch = frozenset(details["labelled"]), int(checkpoint["current_epoch"])
        # at alpha = 1, the weights that predict are the trained ones, averaged or not
        between = details.get("interpolation") != 1
        trained = (between and (details.get("averaged_weights") or details.get("trained_weights"))) or predicting
        predicting, trained = ({name: weights[name] for name in source} for weights in (predicting, trained))
        fits = all(tensor.shape == predicting[name].shape == trained[name].shape for name, tensor in source.items())
    except ActiveError as error:
        log(f"WARNING: the network of the training before is not compared with the source network: {error}")
        return None
    except (KeyError, TypeError, ValueError):
        return None  # another trainer wrote it: its training cases are not known
    return EarlierTraining(predicting, trained, labelled, epoch) if fits else None
