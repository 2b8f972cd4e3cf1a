from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from tiny_spaces import DIRECTIONS, SHAPE, affine, itk_geometry

from nnunet_active.annotation.label_colours import Label
from nnunet_active.annotation.seg_nrrd import write_seg_nrrd
from nnunet_active.data.geometry import Geometry

LABELS = [Label(2, "core", (255, 0, 51)), Label(300, "ignore", (0, 0, 255))]


def test_the_reference_geometry_is_that_of_the_image_in_slicers_axes(tmp_path):
    space = Geometry(SHAPE[::-1], affine(DIRECTIONS["oblique"]))
    label = np.zeros(SHAPE, dtype=np.uint16)
    label[1:3, 4:6, 7:9] = 300
    write_seg_nrrd(label, LABELS, space, tmp_path / "a.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    name, text, _ = image.GetMetaData("Segmentation_ConversionParameters").rstrip("&").split("|")
    numbers = [float(n) for n in text.strip(";").split(";")]
    assert name == "Reference image geometry"
    # right-anterior-superior: the first two axes turned round
    assert np.array_equal(np.reshape(numbers[:16], (4, 4)), np.diag([-1, -1, 1, 1]) @ space.affine)
    assert numbers[16:] == [0, 9, 0, 11, 0, 8]
    assert itk_geometry(tmp_path / "a.seg.nrrd")[0] == space.size
    assert [image.GetMetaData(f"Segment{n}_Extent") for n in (0, 1)] == ["0 -1 0 -1 0 -1", "7 8 4 5 1 2"]
    assert image.GetMetaData("Segment1_LabelValue") == "300"
    assert image.GetMetaData("Segment0_Color") == "1.000000 0.000000 0.200000"


def test_a_two_dimensional_image_still_gives_three_spatial_axes(tmp_path):
    space = Geometry((10, 12, 1), np.eye(4), known=False)
    write_seg_nrrd(np.ones((1, 12, 10), dtype=np.uint8), LABELS, space, tmp_path / "a.seg.nrrd")
    assert sitk.ReadImage(str(tmp_path / "a.seg.nrrd")).GetSize() == (10, 12, 1)
