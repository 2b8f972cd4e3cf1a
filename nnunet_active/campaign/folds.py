"""Cross-validation folds of a campaign: every labelled case is assigned to one of K folds when it arrives, for good.

One campaign, that of fold 0 (or ``all``), asks for labels for all K folds. A new case goes to the smallest fold; on a tie, the
campaign's own fold comes last. So the querying network trains on the first K - 1 cases at once, and never trains on a case that later
validates it. Once every fold has a case, ``splits_final.json`` holds K folds: ``val`` of a fold are its own cases, ``train`` all
others. Until then, it holds only the campaign's own fold, which has no case yet (``val`` = ``train``).
Choosing the smallest fold is our choice. Folds then differ by one case at most, in whatever order labels arrive, unless patients have
several cases, which share a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence


def assign(
    fold_of: Mapping[str, int],
    arrivals: Iterable[str],
    folds: int,
    own: str,
    patient_of: Callable[[str], str] = str,
) -> dict[str, int]:
    """Assign folds to new cases. A case never changes its fold, and a patient's cases share one.

    Args:
        fold_of: folds so far, by case.
        arrivals: labelled cases in the order of their arrival.
        folds: K.
        own: the campaign's own fold, a number or ``all``.
        patient_of: the patient of a case.

    Returns:
        ``fold_of`` with the new cases.

    >>> assign({}, ["a", "b", "c", "d"], 3, "0")
    {'a': 1, 'b': 2, 'c': 0, 'd': 1}
    """
    known = dict(fold_of)
    order = sorted(range(folds), key=lambda fold: (str(fold) == own, fold))
    size = {fold: 0 for fold in order}
    for fold in known.values():
        size[fold] += 1
    of_patient = {patient_of(case): fold for case, fold in known.items()}
    for case in arrivals:
        if case not in known:
            smallest = min(order, key=lambda fold: (size[fold], order.index(fold)))
            known[case] = of_patient.setdefault(patient_of(case), smallest)
            size[known[case]] += 1
    return known


def sides(labelled: Iterable[str], fold_of: Mapping[str, int], fold: str) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold, both sorted; for ``all``, every case trains and none validates."""
    labelled = sorted(labelled)
    return (
        [case for case in labelled if str(fold_of.get(case)) != fold],
        [case for case in labelled if str(fold_of.get(case)) == fold],
    )


def is_complete(labelled: Iterable[str], fold_of: Mapping[str, int], folds: int) -> bool:
    """Whether every fold has a labelled case."""
    return {fold_of[case] for case in labelled if case in fold_of} == set(range(folds))


def split_entries(
    labelled: Sequence[str], fold_of: Mapping[str, int], folds: int, own: str, val: Iterable[str] = ()
) -> dict[int, tuple[list[str], list[str]]]:
    """The folds of ``splits_final.json`` that a campaign defines: index -> (train, val).

    Args:
        labelled: cases to train on, sorted.
        fold_of: folds of the labelled cases; only with cross-validation.
        folds: K; 1 without cross-validation.
        own: the campaign's own fold, a number or ``all``.
        val: cases that the user's split holds out; only without cross-validation.
    """
    if folds > 1 and is_complete(labelled, fold_of, folds):
        return {fold: sides(labelled, fold_of, str(fold)) for fold in range(folds)}
    if own == "all":
        return {}
    return {int(own): sides(labelled, fold_of, own) if folds > 1 else (list(labelled), list(val))}
