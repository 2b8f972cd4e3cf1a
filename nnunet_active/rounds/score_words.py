"""Explains the scores and the strategies' factors in plain words."""

from __future__ import annotations

SCORES = {
    "mean_entropy": "uncertainty of the network, mean over all voxels (entropy in nats)",
    "foreground_voxels": "voxels that the network predicts as foreground",
    "foreground_mm3": "volume that the network predicts as foreground (mm³)",
    "foreground_entropy": "uncertainty within the predicted foreground (nats)",
    "class_balanced_entropy": "uncertainty, mean over the predicted classes (nats)",
    "soft_foreground_entropy": "uncertainty weighted by how much foreground the network sees (nats)",
    "confidence": "highest class probability, mean over the predicted foreground",
    "mean_margin": "gap between the two most probable classes, mean over all voxels",
    "mean_max_probability": "highest class probability, mean over all voxels",
    "soft_dice_confidence": "Dice that the network expects of its own prediction, mean over the predicted classes",
    "mutual_information": "disagreement among several predictions (nats)",
    "density": "share of the pool that looks like this case",
    "kl_source": "how far the network has moved from the source network (KL divergence in nats)",
    "source_mean_entropy": "uncertainty of the source network, mean over all voxels (nats)",
    "minutes": "expected minutes for an expert",
    "objects": "predicted objects, connected and larger than a speck",
}
"""Columns of ``scores.csv``."""

FACTORS = {
    "u": "uncertainty, mean over all voxels (nats)",
    "a": "voxels predicted as foreground",
    "informativeness": "uncertainty times predicted foreground",
    "rho": "share of the pool that looks like this case",
    "knowledge_gap": "distance from what the source network knows",
    "diversity": "distance from what is labelled or chosen already",
    "difficulty": "uncertainty within the predicted foreground, small predictions drawn to the pool's mean",
    "dkd": "unlearned and diverse: knowledge gap and diversity together, 0 to 1 in this query",
    "asd": "difficult in the foreground: the difficulty, 0 to 1 in this query",
    "entropy": "uncertainty, mean over all voxels (nats)",
    "source_probability": "probability that the case comes from the source's domain",
    "weight": "weight against cases that look like the source's",
    "gradient_norm": "how strongly the case would change the network (squared length of the gradient embedding)",
    "log_entropy": "logarithm of the uncertainty",
    "noise": "noise that was drawn for this query",
    "predicted_classes": "number of classes that the network finds in the case",
    "distance": "distance to the nearest labelled case",
    "foreground_voxels": "voxels predicted as foreground",
    "kept": "1: among the most uncertain cases, which alone could be chosen",
    "mean_similarity": "similarity to the whole pool",
    "purity": "how mixed the neighbourhood is: high where clusters meet",
    "affinity": "similarity to the nearest cases",
    "source_distance": "distance to the source's domain",
    "typicality": "how typical the case is of its cluster",
    "cluster": "number of its cluster, a name and not a size",
    "cluster_size": "cases in its cluster",
    "uncertainty": "uncertainty of the uncertain voxels (in units of ln C)",
    "probability": "probability with which the case was drawn at its step, or would have been at the first",
    "doubt": "Dice that the network expects to lack (1 - its soft Dice confidence)",
    "plausible": "1: every usual class is predicted, in a usual volume",
    "utility": "utility of the strategy that ranks within a cluster",
}
"""Components of this package's strategies."""

SLICE_RULES_IN_WORDS = {
    "spread": "The prediction of a scan, and one slice at each end, is cut into parts; the most difficult slice of each is asked for.",
    "centre": "The prediction of a scan, and one slice at each end, is cut into parts; the slice in the middle of each is asked for.",
    "random": "Slices are drawn; the more is predicted in one, the likelier it is.",
}
"""Why a slice was chosen, by the campaign's rule."""

NAMES_ONLY = frozenset({"cluster"})
"""Factors that are names, so that a rank would be meaningless."""


def meaning(name: str) -> str:
    """Words for a component or a column; empty for those of strategies outside this package."""
    if name in FACTORS:
        return FACTORS[name]
    if name in SCORES:
        return SCORES[name]
    number, _, member = name.partition("_")
    return f"utility of the strategy '{member}'" if number.isdigit() and member else ""
