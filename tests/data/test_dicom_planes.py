from __future__ import annotations

import numpy as np
import pytest
from tiny_dicom import change, write_dicom, write_enhanced, write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data.dicom_planes import planes_of, read_dicom_header, require_pydicom
from nnunet_active.util.errors import MissingInput

STEPS = affine(DIRECTIONS["oblique"])


@pytest.fixture
def file(tmp_path):
    return write_series(tmp_path, np.zeros((1, 5, 4), dtype=np.uint16), STEPS)[0]


def fault(file) -> str:
    (plane,) = planes_of(read_dicom_header(file), file)
    return plane.fault


def test_a_plane_knows_its_place_its_steps_and_its_scale(file):
    change(file, RescaleSlope="2", RescaleIntercept="-1024", EchoTime="90")
    (plane,) = planes_of(read_dicom_header(file), file)
    assert plane.shape == (5, 4) and plane.fault == "" and (plane.slope, plane.intercept) == (2, -1024)
    np.testing.assert_allclose(plane.origin, STEPS[:3, 3])
    np.testing.assert_allclose(plane.directions.T * plane.steps, STEPS[:3, :2])
    assert plane.moment["EchoTime"] == "90.0" or plane.moment["EchoTime"] == "90"


def test_an_enhanced_file_has_a_plane_for_each_frame(tmp_path):
    file = write_enhanced(tmp_path / "all.dcm", np.zeros(SHAPE, dtype=np.uint16), STEPS, slope=0.5)
    planes = planes_of(read_dicom_header(file), file)
    assert [plane.frame for plane in planes] == list(range(SHAPE[0]))
    np.testing.assert_allclose(planes[-1].origin, STEPS[:3, 3])
    assert {plane.slope for plane in planes} == {0.5} and not any(plane.fault for plane in planes)


def test_frames_that_do_not_say_where_they_lie_are_refused(file):
    change(file, NumberOfFrames=3)
    assert "do not say where each frame lies" in fault(file)


def test_a_compression_that_nothing_can_decode_is_named_with_what_to_install(file, monkeypatch):
    from pydicom.pixels.decoders.base import Decoder
    from pydicom.uid import JPEGLosslessSV1

    monkeypatch.setattr(Decoder, "is_available", False)
    import pydicom

    content = pydicom.dcmread(file)
    content.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    content.PixelData = pydicom.encaps.encapsulate([b"1234"])
    content["PixelData"].is_undefined_length = True
    content.save_as(file)
    assert fault(file).startswith("is compressed (JPEG Lossless") and "pip install pylibjpeg" in fault(file)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "holds colours"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "holds colours"),
    ],
)
def test_colours_are_refused(file, said, words):
    change(file, **said)
    assert words in fault(file)


def test_inverted_grey_values_are_said_and_kept(file):
    change(file, PhotometricInterpretation="MONOCHROME1")
    (plane,) = planes_of(read_dicom_header(file), file)
    assert plane.fault == "" and "MONOCHROME1" in plane.note


def test_numbers_that_are_none_are_an_error_and_other_files_are_no_dicom(file, tmp_path):
    change(file, PixelSpacing=["1"])
    with pytest.raises(ValueError, match="PixelSpacing"):
        planes_of(read_dicom_header(file), file)
    (tmp_path / "notes.txt").write_text("DICM")
    assert read_dicom_header(tmp_path / "notes.txt") is None


def test_a_segmentation_can_be_told_by_its_header(tmp_path):
    file = write_dicom(tmp_path / "a.dcm", np.ones((1, 2, 5, 4), dtype=bool), ["core"], STEPS)
    assert read_dicom_header(file).Modality == "SEG"


def test_without_pydicom_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingInput, match=r'pip install "nnunet_active\[dicom\]"'):
        require_pydicom()
