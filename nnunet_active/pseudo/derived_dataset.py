"""Writes a separate raw data set of labelled and pseudo-labelled cases, so that a stock trainer can use both.

In ``nnUNet_raw/DatasetNNN_..._PseudoLabelled``, images are links to the target's, people's labels are copies, and pseudo-labels are the
network's predictions in the geometry of the scans, as ``nnUNetv2_predict`` would write them. ``dataset.json`` lists under
``pseudo_labels`` which are which. ``splits_final.json`` validates only on people's labels: on pseudo-labels, a network would be
rewarded for its own errors. A partly labelled case has its known labels and the ignore value elsewhere. If its prediction is reliable,
the prediction replaces the ignore value, and the case never validates.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np

from nnunet_active.annotation.resample_back import to_original_space
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.label_intake import readable_label
from nnunet_active.data.label_writer import copy_label, write_label
from nnunet_active.data.maps import to_file_order
from nnunet_active.data.partly_labelled import fill_ignored
from nnunet_active.data.patients import Patients
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.data.revealed_labels import cut_to_slices
from nnunet_active.nnunet.nnunet_paths import datasets_with_number, preprocessed_root, raw_root
from nnunet_active.pseudo.pseudo_label_writer import link_file
from nnunet_active.pseudo.pseudo_labels import TABLE, Predicting, ReliableSet
from nnunet_active.util.atomic import atomic_folder, copy_file, write_json
from nnunet_active.util.errors import ActiveError, BadCase
from nnunet_active.util.moments import now_in_utc

KEY = "pseudo_labels"
"""Key in the derived ``dataset.json``; nnU-Net ignores keys that it does not know."""
MOST_FOLDS = 5


def derived_name(wanted: str, target: str) -> str:
    """Full name of the derived data set.

    Args:
        wanted: a number, or a full name such as ``Dataset904_GliomaPseudoLabelled``.
        target: full name of the target.

    Raises:
        ActiveError: not a valid name, or name or number belong to a data set that was not derived from this target.
    """
    if wanted.isdecimal():
        wanted = f"Dataset{int(wanted):03d}_{re.sub(r'^Dataset[0-9]+_', '', target)}_PseudoLabelled"
    match = re.fullmatch(r"Dataset(\d{3,})_[\w-]+", wanted)
    if match is None:
        raise ActiveError(
            f"--derived-dataset {wanted} is neither a number nor a name such as Dataset904_Target_PseudoLabelled."
        )
    others = {*datasets_with_number(int(match[1]))} - {wanted}
    if others:
        raise ActiveError(f"Data set number {match[1]} is taken by {', '.join(sorted(others))}; choose another.")
    if (folder := raw_root() / wanted).exists() and not _is_ours(folder, target):
        raise ActiveError(f"{folder} exists and was not derived from {target}; choose another name or number.")
    return wanted


def derive_dataset(
    name: str,
    made: ReliableSet,
    campaign: Campaign,
    raw: RawDataset,
    by: Predicting,
    copy_images: bool = False,
) -> Path:
    """Write the derived data set atomically; one that this function wrote before is replaced.

    Args:
        name: full name, from :func:`derived_name`.
        made: the reliable set.
        campaign: gives the labelled and the held-out cases.
        raw: the target.
        by: the network that made the set, and the preprocessed images.
        copy_images: copy the images instead of linking to them.

    Returns:
        ``nnUNet_raw/<name>``.

    Raises:
        ActiveError: a data set of that name exists and is not ours, nothing is reliable, or the images of a case are gone.
    """
    folder = raw_root() / name
    if folder.exists() and not _is_ours(folder, raw.name):
        raise ActiveError(f"{folder} exists and was not derived from {raw.name}; choose another name or number.")
    if not made.cases and not made.filled:
        raise ActiveError("No pseudo-label is reliable, so there is nothing to derive a data set from.")
    people = sorted({*campaign.labelled(), *campaign.val} & set(raw.labelled))
    if without := sorted({*campaign.labelled(), *campaign.val} - {*people}):
        by.log(
            f"WARNING: {raw.folder / 'labelsTr'} has no label of {', '.join(without)} any more, so they are left out."
        )
    gone = sorted(set(made.cases) - set(raw.cases))
    if gone:
        raise ActiveError(f"{raw.folder} and its pool folders have no images of {', '.join(gone)} any more.")
    scratch = folder.with_name(f".{name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    with atomic_folder(scratch) as new:
        (new / "imagesTr").mkdir()
        (new / "labelsTr").mkdir()
        for case in (*people, *made.cases):
            files = {
                f"{case}_{number:04d}{raw.file_ending}": file for number, file in enumerate(raw.cases[case].images)
            }
            if spacing := raw.cases[case].spacing_file:
                files[f"{case}.json"] = spacing
            for file_name, image in files.items():
                if copy_images:
                    copy_file(image, new / "imagesTr" / file_name)
                else:
                    link_file(image, new / "imagesTr" / file_name, symbolic_first=True)
        withheld = {} if campaign.asks_a_person else campaign.known_slices()
        for case in people:
            drawn = readable_label(raw.cases[case], by.store, by.dataset_json)
            file = new / "labelsTr" / f"{case}{raw.file_ending}"
            if case in withheld or case in made.filled:
                label = _partly_labelled(case, drawn, by, withheld.get(case), case in made.filled)
                _write(case, label, file, raw, by)
            else:
                copy_label(drawn, file)
        for case in made.cases:
            file = new / "labelsTr" / f"{case}{raw.file_ending}"
            _write(case, _predicted(case, by), file, raw, by)
        shutil.copy2(made.folder / TABLE, new / TABLE)
        checked = [case for case in people if case not in made.filled]
        patients = campaign.settings.patients
        splits = folds_on_labels_of_people(checked, list(campaign.val), [*made.cases, *made.filled], patients)
        write_json(new / "splits_final.json", splits)
        facts = {
            "derived_from": raw.name,
            "pseudo_labelled": list(made.cases),
            "labelled_by_people": checked,
            **({"completed_by_predictions": list(made.filled)} if made.filled else {}),
            "network": made.record.get("network"),
            "settings": made.record.get("settings"),
            "made": now_in_utc(),
        }
        description = (
            f"{raw.name} with pseudo-labels: {len(made.cases)} of the {len(made.cases) + len(people)} labels are predictions "
            f"that nobody has checked"
            + (f", {len(made.filled)} more are completed by such predictions" if made.filled else "")
            + f". Which ones, is under '{KEY}'."
        )
        content = {key: value for key, value in raw.dataset_json.items() if key != "dataset"}
        content |= {"name": name, "description": description, "numTraining": len(people) + len(made.cases), KEY: facts}
        write_json(new / "dataset.json", content)
    aside = folder.with_name(f".{name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    scratch.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
    preprocessed = preprocessed_root() / name
    # nnU-Net validates on these copies and renews only those that are older than their label: a person's may be older than a prediction
    shutil.rmtree(preprocessed / "gt_segmentations", ignore_errors=True)
    (preprocessed / "dataset_fingerprint.json").unlink(missing_ok=True)
    # nnU-Net looks for it here; planning and preprocessing do not change it
    write_json(preprocessed / "splits_final.json", splits)
    return folder


def _predicted(case: str, by: Predicting) -> np.ndarray:
    """The network's prediction in the geometry of the scan."""
    try:
        logits = by.window.logits(by.store.load_image(case))
    except BadCase as error:
        raise BadCase(f"Case {case}: {error}") from error
    return to_original_space(case, logits, by.store, by.store.properties(case), by.dataset_json)[0]


def _partly_labelled(case: str, drawn: Path, by: Predicting, known: SliceRequest | None, fill: bool) -> np.ndarray:
    """The label of a partly labelled case, in its reader's order.

    Args:
        case: the case.
        drawn: its label file.
        by: the predicting network.
        known: the known slices, if the label holds further, withheld ones; None if the whole label is known.
        fill: whether to fill the unknown part with the prediction.
    """
    reader, ignore = by.store.plans_manager.image_reader_writer_class(), ignore_value(by.dataset_json)
    label, _ = reader.read_seg(str(drawn))
    if known is not None:
        # the image's properties, since slices are counted in its voxel order, which may not be the label's
        label = cut_to_slices(label, by.store.properties(case), known.axis, known.slices, ignore)
    if fill:
        label = fill_ignored(label, _predicted(case, by)[None], ignore)
    return label[0]


def _write(case: str, label: np.ndarray, file: Path, raw: RawDataset, by: Predicting) -> None:
    """Write a label in its reader's order on the grid of its image; nnU-Net's own writers leave half a file on a full disk."""
    voxels = to_file_order(label, by.store.properties(case))
    reader = by.store.plans_manager.image_reader_writer_class
    write_label(case, voxels, file, raw.cases[case].images[0], by.dataset_json, reader)


def _is_ours(folder: Path, target: str) -> bool:
    try:
        return json.loads((folder / "dataset.json").read_text())[KEY]["derived_from"] == target
    except (OSError, ValueError, KeyError, TypeError):
        return False


def folds_on_labels_of_people(
    people: list[str], val: list[str], pseudo: list[str], patients: Patients
) -> list[dict[str, list[str]]]:
    """Folds that validate only on people's labels: on the held-out ones, else on every labelled case once. No patient is on both
    sides, except where all labelled cases are of one patient."""
    every = {*people, *pseudo}

    def fold(validates: list[str]) -> dict[str, list[str]]:
        left_out = {*validates, *patients.companions(validates, every)}
        return {"train": sorted(every - left_out), "val": sorted(validates)}

    held_out = sorted(set(val) & set(people))
    if held_out:
        return [fold(held_out)]
    groups = list(patients.cases_of(people).values())
    if len(groups) < 2:  # nnU-Net needs a case to validate on
        return [{"train": sorted(every), "val": sorted(people or pseudo)}]
    parts = np.array_split(np.arange(len(groups)), min(MOST_FOLDS, len(groups)))
    return [fold([case for index in part for case in groups[index]]) for part in parts]
