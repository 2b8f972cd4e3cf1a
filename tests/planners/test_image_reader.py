from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from skimage import io
from tiny_source import dataset_json, source_model

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.planners.image_reader import choose_reader
from nnunet_active.planners.source_model_planner import SourceModelPlanner
from nnunet_active.util.errors import ActiveError


def raw(root, ending: str, images: int = 1, **described) -> RawDataset:
    folder = root / "Dataset901_Target"
    (folder / "imagesTr").mkdir(parents=True)
    for index in range(images):
        file = folder / "imagesTr" / f"c{index}_0000{ending}"
        array = np.random.default_rng(index).integers(0, 255, (6, 12, 14)).astype(np.uint8)
        if ending == ".tif":
            tifffile.imwrite(file, array)
            (folder / "imagesTr" / f"c{index}.json").write_text(json.dumps({"spacing": [3, 1, 1]}))
        elif ending == ".png":
            io.imsave(file, array[0], check_contrast=False)
        else:
            sitk.WriteImage(sitk.GetImageFromArray(array), file)
    content = {**dataset_json(("T1",)), "file_ending": ending, **described}
    (folder / "dataset.json").write_text(json.dumps(content))
    return RawDataset(folder)


def source(reader: str):
    model = source_model()
    return replace(model, plans={**model.plans, "image_reader_writer": reader})


@pytest.mark.parametrize("images", [1, 0])
@pytest.mark.parametrize(
    ("ending", "theirs", "taken"),
    [
        (".nii.gz", "NibabelIOWithReorient", "NibabelIOWithReorient"),
        (".nii.gz", "SimpleITKIO", "SimpleITKIO"),
        (".nii.gz", "Tiff3DIO", "SimpleITKIO"),  # it does not read this format
        (".nii.gz", "MyLabIO", "SimpleITKIO"),
        (".tif", "Tiff3DIO", "Tiff3DIO"),
    ],
)
def test_the_reader_of_the_source_is_taken_where_it_reads_the_images(tmp_path, ending, theirs, taken, images):
    notes: list[str] = []
    assert choose_reader(raw(tmp_path, ending, images), [source(theirs)], notes) == taken and notes == []


def test_a_reader_that_reads_none_of_the_images_is_not_taken(tmp_path):
    flat = raw(tmp_path, ".tif", images=0)
    for index in range(2):
        tifffile.imwrite(flat.folder / "imagesTr" / f"c{index}_0000.tif", np.ones((12, 14), np.uint8))
    flat = RawDataset(flat.folder)
    assert choose_reader(flat, [source("Tiff3DIO")], []) == "NaturalImage2DIO"


def test_what_the_data_set_names_counts_more_than_the_source(tmp_path):
    named = raw(tmp_path, ".nii.gz", overwrite_image_reader_writer="NibabelIO")
    assert choose_reader(named, [source("NibabelIOWithReorient")], []) == "NibabelIO"


def test_a_format_that_nnunet_does_not_read_is_one_sentence(tmp_path):
    with pytest.raises(ActiveError, match=r"no reader for files ending in \.mnc"):
        choose_reader(raw(tmp_path, ".mnc", images=0), [source("SimpleITKIO")], [])


def test_flat_pictures_keep_their_axes_whatever_the_order_of_the_sources(tmp_path):
    model = source("SimpleITKIO")
    model.plans.update(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    planner = SourceModelPlanner(raw(tmp_path, ".png"), model, preprocessed_dataset_folder=tmp_path / "preprocessed")
    plans = planner.plan()
    assert plans["image_reader_writer"] == "NaturalImage2DIO"
    assert plans["transpose_forward"] == plans["transpose_backward"] == [0, 1, 2]
    assert any("axes are in another order" in note for note in planner.notes)
