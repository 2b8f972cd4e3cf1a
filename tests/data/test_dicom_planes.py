from __future__ import annotations

import numpy as np
import pytest
from tiny_dicom import change, write_dicom, write_enhanced, write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data.dicom_planes import planes_of, read_dicom_header, require_pydicom
from nnunet_active.util.errors import MissingInput

pydicom = pytest.importorskip("pydicom")
from pydicom.pixels.decoders.base import Decoder  # noqa: E402

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


def test_what_a_maker_put_into_sequences_of_its_own_moves_and_scales_no_frame(tmp_path):
    file = write_enhanced(tmp_path / "all.dcm", np.zeros(SHAPE, dtype=np.uint16), STEPS, slope=0.5)
    said = pydicom.dcmread(file)
    for frame in said.PerFrameFunctionalGroupsSequence:
        own = pydicom.Dataset()
        own.RescaleSlope, own.RescaleIntercept, own.ImagePositionPatient = 2, 7, [1, 2, 3]
        frame.add_new((0x2005, 0x0014), "LO", "somebody's MR Imaging")
        frame.add_new((0x2005, 0x140F), "SQ", [own])
    said.save_as(file)
    planes = planes_of(read_dicom_header(file), file)
    np.testing.assert_allclose(planes[-1].origin, STEPS[:3, 3])
    assert {(plane.slope, plane.intercept) for plane in planes} == {(0.5, 0)}


def compressed(file, syntax: str, bits: int = 16) -> str:
    """The fault of a file that claims to be compressed."""
    content = pydicom.dcmread(file)
    content.file_meta.TransferSyntaxUID, content.BitsStored = getattr(pydicom.uid, syntax), bits
    content.PixelData = pydicom.encaps.encapsulate([b"1234"])
    content["PixelData"].is_undefined_length = True
    content.save_as(file)
    return fault(file)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("JPEGLosslessSV1", "pip install pylibjpeg pylibjpeg-libjpeg, or"),
        ("JPEGLSLossless", "pip install pylibjpeg pylibjpeg-libjpeg, or"),
        ("JPEG2000", "pip install pylibjpeg pylibjpeg-openjpeg, or"),
        ("HTJ2KLossless", "pip install pylibjpeg pylibjpeg-openjpeg, or"),
        ("MPEG2MPML", "which nothing here can decode; export it uncompressed"),
    ],
)
def test_a_compression_that_nothing_can_decode_is_named_with_what_would_help(file, monkeypatch, syntax, said):
    monkeypatch.setattr(Decoder, "available_plugins", ())
    assert compressed(file, syntax).startswith(f"is compressed ({getattr(pydicom.uid, syntax).name})")
    assert said in fault(file)


def test_decoders_that_refuse_twelve_bits_do_not_count_where_there_are_so_many(file, monkeypatch):
    monkeypatch.setattr(Decoder, "available_plugins", ("pillow",))
    assert compressed(file, "JPEGExtended12Bit", bits=8) == ""
    assert "pip install pylibjpeg pylibjpeg-libjpeg" in compressed(file, "JPEGExtended12Bit", bits=12)


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
