from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import tiny_source
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from skimage import io
from tiny_spaces import (
    DIRECTIONS,
    MARKER,
    SHAPE,
    SPACING,
    TUMOUR,
    add_case,
    itk_geometry,
    make_store,
    see_bright,
    voxels,
    write_itk,
    write_nifti,
)

from nnunet_active.annotation.archive import Archive
from nnunet_active.annotation.handoff import write_handoff
from nnunet_active.annotation.records import AskedSlices, HandoffCase, read_handoff, voxel_digest
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import distinct_channel_names
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.nifti import read_nifti_header
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.log import silent

ALL = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


class Handoff:
    """One data set of one or more cases, and the call."""

    def __init__(self, root: Path, files, reader="SimpleITKIO", ending=".nii.gz", **how) -> None:
        self.root = root
        self.store, self.description = make_store(root / "preprocessed" / "Dataset903_Space", reader, ending, **how)
        self.cases = [add_case(self.store, self.description, file, rank=n) for n, file in enumerate(files, 1)]
        self.folder, self.archive = root / "handoff", root / "predictions" / "round_001"
        self.predicted = 0
        self.log: list[str] = []

    def predict(self, image):
        self.predicted += 1
        return see_bright(image)

    def __call__(self, **how):
        return write_handoff(
            self.folder,
            how.pop("cases", self.cases),
            Archive(self.archive, self.store, self.description, how.pop("predict", self.predict)),
            log=self.log.append,
            round_number=how.pop("round_number", 1),
            **how,
        )

    def file(self, name: str, case: str = "c") -> Path:
        return self.folder / case / name


def nifti_handoff(root: Path, *cases: str, direction="oblique", **how) -> Handoff:
    files = [
        write_nifti(root / "images" / f"{case}_0000.nii.gz", DIRECTIONS[direction], array=voxels(n))
        for n, case in enumerate(cases or ("c",))
    ]
    return Handoff(root, files, **how)


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def point_of_largest(file: Path) -> tuple[float, ...]:
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    (place,) = np.argwhere(array == array.max()).tolist()
    return image.TransformIndexToPhysicalPoint(place[::-1])


@ALL
@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
def test_a_bright_voxel_is_predicted_where_it_is_in_the_scan(tmp_path, direction, reader):
    """The whole way: reader, crop, transposed axes, network, back, file; the header is the scan's, bit for bit."""
    image = write_nifti(tmp_path / "images" / "c_0000.nii.gz", direction, codes=(1, 2))
    handoff = Handoff(tmp_path, [image], reader, transpose=(2, 0, 1), spacing=spacing_for(reader, direction))
    assert handoff().written == ["c"]
    for name in ("c.nii.gz", "c_uncertainty.nii.gz"):
        written = handoff.file(name)
        one, other = read_nifti_header(image), read_nifti_header(written)
        for field in (
            "dim",
            "pixdim",
            "qform_code",
            "sform_code",
            "quatern_b",
            "qoffset_x",
            "srow_x",
            "srow_y",
            "srow_z",
        ):
            assert one[field].tobytes() == other[field].tobytes()
        assert itk_geometry(written) == itk_geometry(image)
    assert point_of_largest(handoff.file("c.nii.gz")) == point_of_largest(image)
    uncertainty = nibabel.load(handoff.file("c_uncertainty.nii.gz")).get_fdata()
    assert np.count_nonzero(uncertainty > 0.1) == 6 and uncertainty.transpose()[MARKER] < 1e-3
    assert nibabel.load(handoff.file("c_uncertainty.nii.gz")).get_data_dtype() == np.float32


def spacing_for(reader: str, direction: np.ndarray) -> tuple[float, ...]:
    """The spacing as the reader sees it: axes of a permuted scan change places in a reader that reorients."""
    if "Reorient" not in reader:
        return SPACING
    nearest = np.abs(direction).argmax(axis=1)
    return tuple(SPACING[axis] for axis in nearest)


@ALL
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_so_it_is_for_metaimage_and_nrrd(tmp_path, direction, ending):
    image = write_itk(tmp_path / "images" / f"c_0000{ending}", direction)
    handoff = Handoff(tmp_path, [image], ending=ending)
    handoff()
    for name in (f"c{ending}", f"c_uncertainty{ending}"):
        assert itk_geometry(handoff.file(name)) == itk_geometry(image)
        assert itk_geometry(handoff.archive / name) == itk_geometry(image)
    assert point_of_largest(handoff.file(f"c{ending}")) == point_of_largest(image)


@ALL
@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_the_slicer_segmentation_lies_on_the_scan_and_has_names_and_colours(tmp_path, direction, ending):
    write = write_nifti if ending == ".nii.gz" else write_itk
    image = write(tmp_path / "images" / f"c_0000{ending}", direction)
    handoff = Handoff(tmp_path, [image], ending=ending)
    handoff()
    file = handoff.file("c.seg.nrrd")
    found = sitk.ReadImage(str(file))
    for one, other in zip(itk_geometry(file), itk_geometry(image), strict=True):
        assert np.allclose(one, other, rtol=1e-14, atol=1e-12)
    if ending == ".nrrd":
        assert itk_geometry(file) == itk_geometry(image)
    assert np.allclose(point_of_largest(file), point_of_largest(image), atol=1e-9)
    assert [found.GetMetaData(f"Segment{n}_Name") for n in (0, 1)] == ["oedema", "core"]
    assert [found.GetMetaData(f"Segment{n}_LabelValue") for n in (0, 1)] == ["1", "2"]
    colours = [tuple(map(float, found.GetMetaData(f"Segment{n}_Color").split())) for n in (0, 1)]
    assert colours[0] != colours[1] and all(0 <= part <= 1 for colour in colours for part in colour)
    z, y, x = MARKER
    assert found.GetMetaData("Segment0_Extent") == f"{x} {x} {y} {y} {z} {z}"
    assert found.GetMetaData("Segment1_Extent") == "0 -1 0 -1 0 -1"
    assert found.GetMetaData("Segmentation_MasterRepresentation") == "Binary labelmap"


def test_slicers_own_package_reads_the_segmentation(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    handoff = nifti_handoff(tmp_path)
    handoff()
    found = slicerio.read_segmentation(str(handoff.file("c.seg.nrrd")))
    assert slicerio.segment_names(found) == ["oedema", "core"]
    assert [segment["labelValue"] for segment in found["segments"]] == [1, 2]
    assert found["voxels"].transpose()[MARKER] == 1 and found["voxels"].sum() == 1
    assert found["containedRepresentationNames"] == ["Binary labelmap"]
    image = sitk.ReadImage(str(handoff.file("c_0000.nii.gz")))
    left = np.diag([1.0, 1, 1, 1])
    assert np.allclose(left @ found["ijkToLPS"] @ (0, 0, 0, 1), (*image.TransformIndexToPhysicalPoint((0, 0, 0)), 1))
    assert np.allclose((found["ijkToLPS"] @ (9, 11, 8, 1))[:3], image.TransformIndexToPhysicalPoint((9, 11, 8)))


def test_the_folder_holds_what_the_annotator_needs_and_says_so(tmp_path):
    handoff = nifti_handoff(tmp_path, "b", "a b-1.2")
    report = handoff(fold="0")
    assert report.written == ["b", "a b-1.2"] and not report.problems
    assert {file.name for file in handoff.folder.iterdir()} == {
        *("b", "a b-1.2", "README.txt", "worklist.csv", "labels_itksnap.txt", "handoff.json", "open_in_slicer.py"),
        *("mitk_tasks.json", "cases.csv"),
    }
    assert {file.name for file in (handoff.folder / "b").iterdir()} == {
        *("b_0000.nii.gz", "b.nii.gz", "b.seg.nrrd", "b_uncertainty.nii.gz", "b.itksnap", ".case.json", "accepted"),
    }
    content = read_handoff(handoff.folder)
    assert {key: content[key] for key in ("format", "dataset", "fold", "round", "file_ending")} == {
        **{"format": 1, "dataset": "Dataset903_Space", "fold": "0", "round": 1, "file_ending": ".nii.gz"},
    }
    entry = content["cases"]["b"]
    assert entry["label_file"] == "b/b.nii.gz" and entry["open_first"] == "T1"
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(handoff.folder / entry["label_file"])))
    assert entry["digest"] == voxel_digest(label)
    assert entry["volumes_mm3"] == pytest.approx({"oedema": np.prod(SPACING), "core": 0}, abs=1e-3)
    z, y, x = MARKER
    assert entry["slices"]["sagittal"][0] in (x, x + 1, x + 2) and entry["slices"]["axial"][0] in (z, z + 1, z + 2)
    image = sitk.ReadImage(str(handoff.file("b_0000.nii.gz", "b")))
    place = entry["most_uncertain"]
    assert place["position_mm"] == pytest.approx(image.TransformIndexToPhysicalPoint(place["voxel"]), abs=1e-4)
    assert np.abs(np.subtract(place["voxel"], (x, y, z))).max() <= 3
    with (handoff.folder / "worklist.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["b", "a b-1.2"] and rows[0]["label_file"] == "b/b.nii.gz"
    assert int(rows[0]["axial_slices"].split()[0]) == entry["slices"]["axial"][0]
    assert "ingest -d Dataset903_Space --from THIS_FOLDER" in (handoff.folder / "README.txt").read_text()
    assert (handoff.archive / "b.nii.gz").read_bytes() == handoff.file("b.nii.gz", "b").read_bytes()


def test_images_are_links_that_become_copies_on_demand(tmp_path):
    handoff = nifti_handoff(tmp_path)
    image = handoff.cases[0].raw.images[0]
    image.chmod(0o444)
    before = image.stat()
    handoff()
    link = handoff.file("c_0000.nii.gz")
    assert link.is_symlink() and link.resolve() == image.resolve()
    handoff(copy_images=True)
    assert not link.is_symlink() and link.read_bytes() == image.read_bytes()
    after = image.stat()
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    link.unlink()
    link.symlink_to(tmp_path / "moved away")
    handoff()
    assert link.resolve() == image.resolve()
    link.unlink()
    link.symlink_to(copied := shutil.copy(image, tmp_path / "the old place.nii.gz"))
    assert link.samefile(copied)
    handoff()
    assert link.resolve() == image.resolve()


def test_the_links_of_a_data_set_that_is_moved_with_its_hand_off_folder_still_lead_to_its_images(tmp_path):
    raw = tmp_path / "Dataset903_Space"
    handoff = Handoff(tmp_path, [write_nifti(raw / "imagesTr" / "c_0000.nii.gz", DIRECTIONS["identity"])])
    handoff.folder = raw / "annotate" / "fold_0_round_001"
    handoff()
    assert handoff.file("c_0000.nii.gz").is_symlink()
    moved = raw.rename(tmp_path / "moved") / "annotate" / "fold_0_round_001" / "c" / "c_0000.nii.gz"
    assert moved.samefile(tmp_path / "moved" / "imagesTr" / "c_0000.nii.gz")


def test_the_links_of_a_hand_off_folder_that_is_itself_on_another_disk_lead_to_the_images(tmp_path):
    raw, disk = tmp_path / "Dataset903_Space", tmp_path / "another" / "disk" / "annotate"
    image = write_nifti(raw / "imagesTr" / "c_0000.nii.gz", DIRECTIONS["identity"])
    disk.mkdir(parents=True)
    (raw / "annotate").symlink_to(disk)
    handoff = Handoff(tmp_path, [image])
    handoff.folder = raw / "annotate" / "fold_0_round_001"
    handoff()
    assert handoff.file("c_0000.nii.gz").is_symlink()
    assert handoff.file("c_0000.nii.gz").samefile(raw / "imagesTr" / "c_0000.nii.gz")


def test_where_there_are_no_links_the_images_are_copied(tmp_path, monkeypatch):
    def refuse(*_args, **_how):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    handoff = nifti_handoff(tmp_path)
    handoff()
    copied = handoff.file("c_0000.nii.gz")
    assert not copied.is_symlink() and copied.read_bytes() == handoff.cases[0].raw.images[0].read_bytes()


@ALL
@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_both_label_files_are_taken_for_the_untouched_prediction_when_they_come_back(tmp_path, direction, ending):
    write = write_nifti if ending == ".nii.gz" else write_itk
    image = write(tmp_path / "images" / f"c_0000{ending}", direction)
    handoff = Handoff(tmp_path, [image], ending=ending)
    handoff()
    digest = read_handoff(handoff.folder)["cases"]["c"]["digest"]
    for name in (f"c{ending}", "c.seg.nrrd"):
        label = read_label("c", handoff.file(name), image, handoff.description, SimpleITKIO, ending)
        assert voxel_digest(label.voxels) == digest


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_so_are_those_of_a_2d_image_though_3d_slicer_knows_volumes_alone(tmp_path, ending):
    picture = sitk.GetImageFromArray(voxels()[MARKER[0]])
    picture.SetSpacing((0.8, 1.1))
    picture.SetOrigin((-20.5, 7.25))
    image = tmp_path / f"c_0000{ending}"
    sitk.WriteImage(picture, str(image))
    store, description = make_store(tmp_path / "preprocessed" / "Dataset903_Space", "SimpleITKIO", ending)
    store.plans["configurations"]["2d"] = {
        **store.plans["configurations"]["3d_fullres"],
        "data_identifier": "nnUNetPlans_2d",
        "spacing": [1.1, 0.8],
        "patch_size": [8, 8],
    }
    store = CaseStore(store.dataset_folder, store.plans, "2d")
    folder = tmp_path / "handoff"
    case = add_case(store, description, image)
    write_handoff(folder, [case], Archive(tmp_path / "archive", store, description, see_bright), log=silent)
    digest = read_handoff(folder)["cases"]["c"]["digest"]
    assert sitk.ReadImage(str(folder / "c" / "c.seg.nrrd")).GetDimension() == 3
    for name in (f"c{ending}", "c.seg.nrrd"):
        label = read_label("c", folder / "c" / name, image, description, SimpleITKIO, ending)
        assert voxel_digest(label.voxels) == digest and label.voxels[0][MARKER[1:]] == 1


def test_the_same_call_again_changes_nothing_and_asks_no_network(tmp_path):
    handoff = nifti_handoff(tmp_path, "a", "b")
    handoff()
    before = state_of(tmp_path)
    report = handoff()
    after = state_of(tmp_path)
    assert handoff.predicted == 2 and report.untouched == ["a", "b"] and not report.written
    assert {name: content for name, (_, content) in before.items()} == {
        name: content for name, (_, content) in after.items()
    }
    in_cases = [name for name in before if name.startswith(("handoff/a/", "handoff/b/", "predictions"))]
    assert in_cases and all(before[name] == after[name] for name in in_cases)


@pytest.mark.parametrize("edited", ["a.nii.gz", "a.seg.nrrd"])
def test_what_an_annotator_edited_is_never_overwritten(tmp_path, edited):
    handoff = nifti_handoff(tmp_path, "a", "b")
    handoff()
    image = sitk.ReadImage(str(handoff.file(edited, "a")))
    image[2, 2, 2] = 2
    sitk.WriteImage(image, str(handoff.file(edited, "a")))
    handoff.file("a.itksnap", "a").write_text("what ITK-SNAP saved")
    handoff.file("a_uncertainty.nii.gz", "a").unlink()
    before = state_of(handoff.folder / "a")
    digest = read_handoff(handoff.folder)["cases"]["a"]["digest"]
    report = handoff(predict=lambda image: see_bright(np.roll(image, 2, axis=3)))
    after = state_of(handoff.folder / "a")
    assert report.edited == ["a"] and report.untouched == ["b"]
    assert after.pop("a_uncertainty.nii.gz")  # what was missing is there again
    assert after == before
    assert read_handoff(handoff.folder)["cases"]["a"]["digest"] == digest


@pytest.mark.parametrize(("left", "edited"), [(".DS_Store", False), ("c.nrrd", True)])
def test_a_hidden_file_beside_what_is_accepted_is_no_label(tmp_path, left, edited):
    handoff = nifti_handoff(tmp_path)
    handoff()
    (handoff.folder / "c" / "accepted" / left).write_bytes(b"x")
    report = handoff()
    assert (report.edited, report.untouched) == ((["c"], []) if edited else ([], ["c"]))


def test_a_label_saved_again_without_a_change_is_not_edited(tmp_path):
    handoff = nifti_handoff(tmp_path)
    handoff()
    file = handoff.file("c.nii.gz")
    before = file.read_bytes()
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkInt16), str(file))
    assert file.read_bytes() != before
    assert handoff().untouched == ["c"]


def test_an_edited_case_without_any_record_is_still_left_alone(tmp_path):
    handoff = nifti_handoff(tmp_path)
    handoff()
    for record in (handoff.folder / "handoff.json", handoff.file(".case.json")):
        record.unlink()
    handoff.file("c.nii.gz").write_bytes(b"the annotator's")
    report = handoff()
    assert "move it away" in report.problems["c"]
    assert handoff.file("c.nii.gz").read_bytes() == b"the annotator's"


def test_a_lost_handoff_json_comes_back_from_the_cases(tmp_path):
    handoff = nifti_handoff(tmp_path, "a", "b")
    handoff()
    content = read_handoff(handoff.folder)
    (handoff.folder / "handoff.json").unlink()
    handoff()
    assert read_handoff(handoff.folder) == content


def test_a_case_that_was_deleted_comes_back_as_it_was_from_the_archive(tmp_path):
    handoff = nifti_handoff(tmp_path)
    handoff()
    before = {name: content for name, (_, content) in state_of(handoff.folder / "c").items()}
    shutil.rmtree(handoff.file(""))
    assert handoff().written == ["c"] and handoff.predicted == 1
    assert {name: content for name, (_, content) in state_of(handoff.folder / "c").items()} == before


def test_a_later_round_in_the_same_folder_keeps_the_cases_of_the_first(tmp_path):
    handoff = nifti_handoff(tmp_path, "a", "b")
    handoff(cases=handoff.cases[:1])
    handoff(cases=handoff.cases[1:], round_number=2)
    content = read_handoff(handoff.folder)
    assert {case: entry["round"] for case, entry in content["cases"].items()} == {"a": 1, "b": 2}
    assert content["round"] == 2


def test_one_bad_case_is_named_and_the_others_go_on(tmp_path):
    handoff = nifti_handoff(tmp_path, "a", "b", "d")

    def predict(image):
        logits = handoff.predict(image)
        if handoff.predicted == 1:
            logits[0, 0, 0, 0] = np.nan
        return logits

    write_nifti(handoff.cases[1].raw.images[0], DIRECTIONS["identity"], array=voxels()[:-1])  # since preprocessing
    report = handoff(predict=predict)
    assert report.written == ["d"]
    assert "NaN" in report.problems["a"] and "not those of the prediction" in report.problems["b"]
    assert list(read_handoff(handoff.folder)["cases"]) == ["d"] and len(handoff.log) == 2
    assert [file.name for file in handoff.archive.glob(".*")] == [".d.image.json"] and not (
        handoff.archive / "a.nii.gz"
    ).exists()


def labelled_before(handoff: Handoff, file: Path, how: str) -> np.ndarray:
    """A label of two slices, one mark off the middle, saved beside the image in one of the ways of annotators' programs."""
    label = np.full(SHAPE, 3, dtype=np.uint8)
    label[4:6], label[4, 1, 2] = 0, 2
    image = sitk.GetImageFromArray(label)
    image.CopyInformation(sitk.ReadImage(str(handoff.cases[0].raw.images[0])))
    if how == "turned":
        image = sitk.Flip(image, [True, False, True])
    elif how == "axes in another order":
        image = sitk.PermuteAxes(image, [2, 0, 1])
    sitk.WriteImage(image[:, :, 3:] if how == "a smaller box" else image, str(file), True)
    if how == "a smaller box":
        label[:3] = 0
    return label


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIOWithReorient"])
@pytest.mark.parametrize("how", ["turned", "axes in another order", "a smaller box", "another format"])
def test_slices_labelled_before_lie_in_the_hand_off_where_they_were_drawn(tmp_path, reader, how):
    image = write_nifti(tmp_path / "images" / "c_0000.nii.gz", DIRECTIONS["flipped"])
    labels = {"background": 0, "oedema": 1, "core": 2, "ignore": 3}
    handoff = Handoff(tmp_path, [image], reader, labels=labels)
    before = tmp_path / f"c.{'nrrd' if how == 'another format' else 'nii.gz'}"
    label = labelled_before(handoff, before, how)
    asked = AskedSlices("z", (7,), 3, before)
    assert handoff(cases=[replace(handoff.cases[0], asked=asked)]).written == ["c"]
    for name in ("c.nii.gz", "c.seg.nrrd"):
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(handoff.file(name))))
        keep = [index for index in range(len(label)) if index != 7]
        np.testing.assert_array_equal(found[keep], np.where(label == 3, 3 if name == "c.nii.gz" else 0, label)[keep])
    assert itk_geometry(handoff.file("c.nii.gz")) == itk_geometry(image)
    # what nobody labelled is no prediction
    assert read_handoff(handoff.folder)["cases"]["c"]["volumes_mm3"].keys() == {"oedema", "core"}


@pytest.mark.parametrize("in_slices", [True, False])
def test_itksnap_hides_the_ignore_value_where_slices_are_asked_for_and_shows_it_elsewhere(tmp_path, in_slices):
    handoff = nifti_handoff(tmp_path, labels={"background": 0, "oedema": 1, "core": 2, "ignore": 3})
    asked = AskedSlices("z", (7,), 3) if in_slices else None
    handoff(cases=[replace(handoff.cases[0], asked=asked)])
    core, ignore = (handoff.folder / "labels_itksnap.txt").read_text().splitlines()[-2:]
    assert core.split()[4:7] == ["1"] * 3 and ignore.split()[4:7] == ["0" if in_slices else "1"] * 3
    assert ('key="Flags" value="0 0"' in handoff.file("c.itksnap").read_text()) is in_slices


@pytest.mark.parametrize("damage", ["of another size", "no image"])
def test_a_case_whose_label_so_far_cannot_be_read_is_named_and_the_others_go_on(tmp_path, damage):
    labels = {"background": 0, "oedema": 1, "core": 2, "ignore": 3}
    handoff, before = nifti_handoff(tmp_path, "a", "b", labels=labels), tmp_path / "a.nii.gz"
    if damage == "no image":
        before.write_bytes(b"scan")
    else:
        write_nifti(before, DIRECTIONS["oblique"], array=np.ones((SHAPE[0] + 1, *SHAPE[1:]), dtype=np.float32))
    asked = [AskedSlices("z", (7,), 3, file) for file in (before, None)]
    report = handoff(cases=[replace(case, asked=one) for case, one in zip(handoff.cases, asked, strict=True)])
    assert report.written == ["b"] and str(before) in report.problems["a"]
    assert not (handoff.folder / "a").exists()


def test_a_folder_of_another_data_set_is_refused(tmp_path):
    one, other = nifti_handoff(tmp_path / "one"), nifti_handoff(tmp_path / "other")
    one()
    other.folder = one.folder
    content = json.loads((one.folder / "handoff.json").read_text())
    (one.folder / "handoff.json").write_text(json.dumps({**content, "dataset": "Dataset001_Else"}))
    with pytest.raises(MissingInput, match="Dataset001_Else"):
        other()


def test_regions_are_painted_as_nnunet_does_and_named(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    handoff = nifti_handoff(tmp_path, labels=labels, regions_class_order=[1, 2])

    def predict(image):
        bright = see_bright(image)[1] > 0
        return (2.0 * bright - 1).expand(2, *bright.shape) * 9  # both regions at the marker

    handoff(predict=predict)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(handoff.file("c.nii.gz"))))
    assert label[MARKER] == 2 and np.count_nonzero(label) == 1
    uncertainty = sitk.GetArrayFromImage(sitk.ReadImage(str(handoff.file("c_uncertainty.nii.gz"))))
    p = 1 / (1 + np.exp(-9.0))
    assert uncertainty[MARKER] == pytest.approx(-2 * (p * np.log(p) + (1 - p) * np.log(1 - p)), abs=1e-4)
    segmentation = sitk.ReadImage(str(handoff.file("c.seg.nrrd")))
    assert [segmentation.GetMetaData(f"Segment{n}_Name") for n in range(3)] == ["whole", "core", "ignore"]


def test_pictures_are_handed_over_by_their_own_reader(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    picture = (voxels()[4] / 5).clip(0, 255).astype(np.uint8)
    picture[MARKER[1:]] = 255
    io.imsave(folder / "c_0000.png", picture, check_contrast=False)
    handoff = Handoff(tmp_path, [folder / "c_0000.png"], "NaturalImage2DIO", ".png", spacing=(1, 1, 999))
    assert handoff().written == ["c"]
    label = io.imread(handoff.file("c.png"))
    assert label.shape == SHAPE[1:] and np.argwhere(label).tolist() == [list(MARKER[1:])]
    uncertainty = nibabel.load(handoff.file("c_uncertainty.nii.gz")).get_fdata()
    assert uncertainty.shape == (*SHAPE[:0:-1], 1) and uncertainty.max() > 0.3
    assert sitk.ReadImage(str(handoff.file("c.seg.nrrd"))).GetSize() == (*SHAPE[:0:-1], 1)
    assert not handoff.file("c.itksnap").exists()
    assert read_handoff(handoff.folder)["cases"]["c"]["slices"] == {}
    assert handoff().untouched == ["c"]


def test_tiff_stacks_are_handed_over_with_their_spacing(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "c_0000.tif", voxels())
    (folder / "c.json").write_text(json.dumps({"spacing": [3.5, 1.25, 0.5]}))
    handoff = Handoff(tmp_path, [folder / "c_0000.tif"], "Tiff3DIO", ".tif", spacing=(0.5, 1.25, 3.5))
    assert handoff().written == ["c"]
    label = tifffile.imread(handoff.file("c.tif"))
    assert np.argwhere(label).tolist() == [list(MARKER)]
    assert json.loads(handoff.file("c.json").read_text()) == {"spacing": [3.5, 1.25, 0.5]}
    assert handoff().untouched == ["c"]


def test_a_workspace_names_files_that_are_there(tmp_path):
    handoff = nifti_handoff(tmp_path, direction="flipped")
    handoff()
    registry = ElementTree.parse(handoff.file("c.itksnap")).getroot()
    paths = [Path(entry.get("value")) for entry in registry.iter("entry") if entry.get("key") == "AbsolutePath"]
    assert [path.name for path in paths] == ["c_0000.nii.gz", "c_uncertainty.nii.gz", "c.nii.gz"]
    assert all(path.is_file() and path.parent == handoff.folder / "c" for path in paths)


def test_two_channels_of_one_name_are_both_handed_over_and_the_one_to_open_first_is_the_right_one(tmp_path):
    files = [write_itk(tmp_path / f"c_{number:04d}.nii.gz", np.eye(3), voxels(number)) for number in range(2)]
    description = {**tiny_source.dataset_json(("MR", "MR"), TUMOUR), "file_ending": ".nii.gz"}
    plans = {**tiny_source.plans(("3d_fullres",), 2), "image_reader_writer": "SimpleITKIO"}
    plans["configurations"]["3d_fullres"]["spacing"] = [float(step) for step in SPACING[::-1]]
    store = CaseStore(tmp_path / "preprocessed", plans, "3d_fullres")
    raw = RawCase("c", tuple(files), None)
    preprocess_case(raw, store, description)
    names = distinct_channel_names(description)
    folder, archive = tmp_path / "handoff", Archive(tmp_path / "archive", store, description, see_bright)
    write_handoff(folder, [HandoffCase(raw, names[1], 1)], archive, log=silent)
    (row,) = csv.DictReader((folder / "cases.csv").open())
    assert (row["image"], row[f"{names[0]}_volume"]) == ("./c/c_0001.nii.gz", "./c/c_0000.nii.gz")
    (task,) = json.loads((folder / "mitk_tasks.json").read_text())["Tasks"]
    assert task["Image"] == "c/c_0001.nii.gz"
    entry = read_handoff(folder)["cases"]["c"]
    # open_in_slicer.py finds its volumes by these names
    assert {image["channel"]: image["file"] for image in entry["images"]}[entry["open_first"]] == "c/c_0001.nii.gz"
    assert len({image["channel"] for image in entry["images"]}) == 2


def test_nothing_is_handed_over_as_quietly(tmp_path):
    handoff = nifti_handoff(tmp_path)
    report = handoff(cases=[])
    assert not report.written and read_handoff(handoff.folder)["cases"] == {}


def test_what_the_file_system_refuses_is_said_with_the_place_and_what_to_do(tmp_path):
    handoff = nifti_handoff(tmp_path)
    handoff()
    handoff.file("c.seg.nrrd").unlink()
    handoff.file("c.seg.nrrd").mkdir()
    said = handoff().problems["c"]
    assert said.startswith(f"Case c is not handed over: {handoff.file('c.seg.nrrd')}: ")
    assert "a folder stands where a file belongs; move it away" in said and ".tmp" not in said and "Errno" not in said
