"""Which of the models, folds and checkpoints that lie in a folder or a zip is meant."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from nnunet_active.models.model_files import FolderStore, ZipStore
from nnunet_active.util.errors import ActiveError, MissingInput

DEFAULT_CHECKPOINT = "checkpoint_final.pth"
FALLBACK_CHECKPOINTS = ("checkpoint_best.pth", "checkpoint_latest.pth")


def choose_model(store: FolderStore | ZipStore, configuration: str | None) -> str:
    """Name of the one model folder that is meant.

    Raises:
        MissingInput: none is there, none is of this configuration, or several are.
    """
    models = store.models()
    if not models:
        raise MissingInput(
            f"No trained model was found in {store.describe('', '')}; expected a folder with plans.json, dataset.json and "
            f"fold_X/{DEFAULT_CHECKPOINT}, such as nnUNetTrainer__nnUNetPlans__3d_fullres."
        )
    if len(models) == 1:
        return models[0]
    fitting = [name for name in models if configuration is None or name.endswith(f"__{configuration}")]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(PurePosixPath(name).name or "." for name in fitting or models)
    if not fitting:
        raise MissingInput(
            f"{store.describe('', '')} holds no model for the configuration {configuration}; found: {names}."
        )
    raise MissingInput(
        f"{store.describe('', '')} holds several models ({names}); choose the configuration with -c, or give one of these "
        f"folders itself with -m."
    )


def read_json(store: FolderStore | ZipStore, model: str, name: str, required: bool) -> Any:
    """A JSON object beside the folds of a model; None where it is absent and not ``required``.

    Raises:
        MissingInput: it is absent.
        ActiveError: it is no JSON object.
    """
    content = store.read(model, name)
    where = store.describe(model, name)
    if content is None:
        if not required:
            return None
        raise MissingInput(
            f"{where} was not found; a trained nnU-Net model has it beside its fold_X folders, copy it there."
        )
    try:
        parsed = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ActiveError(f"{where} is not valid JSON ({error}); copy it again from the trained model.") from error
    if not isinstance(parsed, dict):
        raise ActiveError(f"{where} holds a {type(parsed).__name__} where an object was expected; copy it again.")
    return parsed


def choose_fold(
    store: FolderStore | ZipStore,
    model: str,
    found: dict[str, list[str]],
    fold: str | int | None,
    checkpoint: str,
    notes: list[str],
) -> tuple[str, str]:
    """Fold and checkpoint to read: the lowest fold that has the checkpoint; the default one has substitutes.

    Args:
        store, model: where the model is, for messages.
        found: checkpoints by fold, in the order in which folds are preferred.
        fold: a fold that somebody asked for.
        checkpoint: file name.
        notes: gets sentences about what was decided.

    Raises:
        MissingInput: there is no such fold or checkpoint.
    """
    where = store.describe(model, "")
    if not found:
        raise MissingInput(f"{where} has no fold_X folder with a checkpoint; train the source model or copy it there.")
    if fold is not None and str(fold) not in found:
        raise MissingInput(f"{where} has no checkpoint for fold {fold}; folds found: {', '.join(found)}.")
    candidates = list(found) if fold is None else [str(fold)]
    wanted = (checkpoint, *(FALLBACK_CHECKPOINTS if checkpoint == DEFAULT_CHECKPOINT else ()))
    for name in wanted:
        for candidate in candidates:
            if name in found[candidate]:
                if fold is None and len(found) > 1:
                    notes.append(f"Folds found: {', '.join(found)}; fold {candidate} is taken (-f chooses another).")
                if name != checkpoint:
                    notes.append(f"fold_{candidate} has no {checkpoint}; {name} is taken in its place.")
                return candidate, name
    there = "; ".join(f"fold_{candidate}: {', '.join(found[candidate])}" for candidate in candidates)
    raise MissingInput(f"{where} has no {checkpoint}; found {there}; choose one with -chk.")
