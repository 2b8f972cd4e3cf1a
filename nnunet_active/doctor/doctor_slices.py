"""The part of `doctor` that checks partly labelled cases: which ones exist, and what stock preprocessing would do to them."""

from __future__ import annotations

from collections.abc import Iterator

from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.partly_labelled import find_partly_labelled
from nnunet_active.doctor.doctor import Check, name_some
from nnunet_active.workspace import Workspace

_CHECK = "partly labelled cases"


def check_partly_labelled(workspace: Workspace) -> Iterator[Check]:
    """Report nothing if no ignore label is declared, because every label is then complete."""
    ignore = ignore_value(workspace.dataset_json)
    if ignore is None:
        return
    store, campaign = workspace.store, workspace.found_campaign
    stored = find_partly_labelled(store.folder, store.labelled_identifiers(), ignore).cases
    known = {} if campaign is None else campaign.known_slices()
    partly = sorted({*stored, *known})
    said = (f"{case} ({known[case].words()})" if case in known else case for case in partly)
    yield Check(_CHECK, "ok", name_some(said) or "none")
    masked = zip(workspace.channel_names, store.configuration_manager.use_mask_for_norm, strict=True)
    channels = [name for name, on in masked if on]
    if stored and channels:
        yield Check(
            _CHECK,
            "warning",
            f"{', '.join(channels)}: normalised within a mask of the body (use_mask_for_norm), and nnUNetv2_preprocess takes the "
            f"ignore value for body, so that it normalises these cases unlike all others",
            f"Preprocess with {workspace.commands.preprocess()}, which does not.",
        )
    if held_out := sorted({*stored} & {*(campaign.held_out() if campaign is not None else ())}):
        found = f"held out, and measured in the labelled part alone: {name_some(held_out)}"
        yield Check(_CHECK, "warning", found, "Label held-out cases as a whole.")
