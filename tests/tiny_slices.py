"""Rounds of slices with a person: what is asked for, what is drawn, what must come of it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_target import NAME, SHAPE, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.log import silent

IGNORE = 3
MADE = {"labelled": 0, "unlabelled": 4}
SLICES = {"unit": "slice", "per_case": 2}


def campaign_of(target) -> Campaign:
    return Campaign.open(target.preprocessed, "0")


def ask(target, n: int = 4):
    options = SelectOptions(
        NAME,
        target.configuration,
        model=target.model,
        n=n,
        strategy="random",
        settings=dict(SLICES),
        add_ignore_label=True,
        processes=1,
    )
    result = select(options, log=silent)
    assert not result.problems
    campaign = campaign_of(target)
    return campaign.rounds[-1], campaign.handoff_folder(len(campaign.rounds))


def take(**how):
    return ingest(NAME, "0", log=silent, **how)


def voxels(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def seed_of(case: str) -> int:
    return int(case[-1])


def annotate(folder, case: str, slices, ending: str = ".nii.gz", label=None) -> None:
    """Draw the truth in the slices that are asked for, and save in one of the usual ways."""
    file = folder / case / f"{case}.nii.gz"
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    array[list(slices)] = (truth(seed_of(case)) if label is None else label)[list(slices)]
    if ending == ".seg.nrrd":  # as 3D Slicer does: it knows segments, and nothing of the ignore value
        segmentation = sitk.ReadImage(str(folder / case / f"{case}.seg.nrrd"))
        shown = np.where(array == IGNORE, 0, array)
        edited = sitk.GetImageFromArray(shown.astype(np.uint8))
        edited.CopyInformation(segmentation)
        for key in segmentation.GetMetaDataKeys():
            edited.SetMetaData(key, segmentation.GetMetaData(key))
        sitk.WriteImage(edited, str(folder / case / f"{case}.seg.nrrd"), True)
        return
    edited = sitk.GetImageFromArray(array)
    edited.CopyInformation(image)
    sitk.WriteImage(edited, str(file if ending == ".nii.gz" else folder / case / f"{case}{ending}"), True)


def answered_once(target, n: int = 4):
    """One round taken back and another one asked for: a case that has slices of both, those, and the folders of both rounds."""
    made, folder = ask(target)
    for case, request in made.slices.items():
        annotate(folder, case, request.slices)
    take()
    later, second = ask(target, n)
    case = max(later.requested, key=lambda one: (len(later.slices[one].slices), truth(seed_of(one))[11:].any()))
    return case, made.slices[case].slices, later.slices[case].slices, (folder, second)


def write_slices(target, file, case: str, slices, elsewhere: int = IGNORE):
    """As a program saves the slices that were drawn in it, over whatever was there."""
    label = np.full(SHAPE, elsewhere, dtype=np.uint8)
    label[list(slices)] = truth(seed_of(case))[list(slices)]
    made = sitk.GetImageFromArray(label)
    made.CopyInformation(sitk.ReadImage(str(target.raw / "imagesTr" / f"{case}_0000.nii.gz")))
    file.parent.mkdir(exist_ok=True)
    sitk.WriteImage(made, str(file), True)
    return file.read_bytes()


def assert_labelled(target, case: str, slices) -> None:
    """The same slices in labelsTr, in what is trained on, and in the campaign."""
    wanted = keep_slices(truth(seed_of(case)), 0, slices, IGNORE)
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), wanted)
    seg = nnUNetDatasetBlosc2(str(target.store.folder), [case]).load_case(case)[1][0]
    np.testing.assert_array_equal(seg[:], wanted)
    assert set(campaign_of(target).known_slices()[case].slices) == set(slices)
