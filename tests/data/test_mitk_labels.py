from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_mitk import RECORDED

from nnunet_active.data.label_intake import names_segments
from nnunet_active.data.label_reader import find_label_files, read_label
from nnunet_active.data.mitk_labels import mitk_header, mitk_labels, saved_by_mitk
from nnunet_active.data.segments import Segment, segments_of
from nnunet_active.util.errors import BadCase

LABELS = {"labels": {"background": 0, "necrosis": 1, "core": 2, "oedema": 3}}
GROUPS = "org.mitk.multilabel.segmentation.labelgroups"
SLICER = {"Segment0_Name": "left", "Segment0_LabelValue": "1", "Segment0_Layer": "0"}


def test_what_is_written_for_mitk_is_read_back_and_is_not_taken_for_mitks():
    header = mitk_header([(1, 'the "core"', (255, 0, 51)), (300, "ödem", (0, 0, 255))])
    assert mitk_labels(header) == [('the "core"', 1, 0), ("ödem", 300, 0)]
    assert '"color": [1.0, 0.0, 0.2]' in header[GROUPS] and not saved_by_mitk(header)
    assert mitk_labels({"modality": "DWMRI"}) == [] and mitk_labels({}) == []


def test_the_program_that_saved_a_file_decides_whose_names_count():
    """Neither of the two removes what it does not know."""
    header = {**SLICER, **mitk_header([(1, "right", (1, 2, 3))])}
    assert segments_of(header) == [Segment("left", 1, 0)]
    assert segments_of({**header, "MITK_IO_reader_version": "2026.06.00"}) == [Segment("right", 1, 0)]
    assert segments_of(mitk_header([(1, "right", (1, 2, 3))])) == [Segment("right", 1, 0)]
    assert segments_of({**SLICER, "MITK_IO_reader_version": "2026.06.00"}) == [Segment("left", 1, 0)]


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"labels": [{"name": "a"}]}]', '{"labels": []}', "7"])
def test_damaged_groups_are_one_sentence(text):
    header = {**mitk_header([]), GROUPS: text, "org_mitk_uid": "1"}
    with pytest.raises(ValueError, match="labelgroups is damaged"):
        segments_of(header)


@pytest.fixture
def image(tmp_path):
    """On the grid of the file that MITK saved."""
    saved = sitk.ReadImage(str(RECORDED))
    image = sitk.Image(saved.GetSize(), sitk.sitkFloat32)
    image.CopyInformation(saved)
    sitk.WriteImage(image, str(tmp_path / "a_0000.nrrd"))
    return tmp_path / "a_0000.nrrd"


def test_a_file_that_mitk_saved_with_two_groups_is_read_by_the_names_of_its_labels(image):
    found = read_label("a", RECORDED, image, LABELS, SimpleITKIO, ".nrrd")
    expected = np.zeros((5, 6, 7), dtype=np.uint8)
    expected[1:3, 2:4, 1:5] = 3  # oedema, which has value 1 in the file
    expected[3, 3:5, 2:4] = 2
    expected[0, 0, :3] = 2  # core of the second group, which has value 9 in the file
    assert np.array_equal(found.voxels, expected) and found.notes == ()
    assert names_segments(RECORDED)


def test_labels_of_two_groups_that_overlap_are_refused_by_name(tmp_path, image):
    header, _, _ = RECORDED.read_bytes().partition(b"\n\n")
    voxels = np.zeros((5, 6, 7, 2), dtype="<u2")
    voxels[0, 0, 0] = (1, 9)
    file = tmp_path / "a.mitk.nrrd"
    file.write_bytes(header.replace(b"encoding: gzip", b"encoding: raw") + b"\n\n" + voxels.tobytes())
    assert find_label_files(tmp_path, ["a"], ".nrrd")[0] == {"a": [file]}
    with pytest.raises(BadCase, match="core and oedema overlap in 1 voxels"):
        read_label("a", file, image, LABELS, SimpleITKIO, ".nrrd")
