from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_mitk import run_in_mitk
from tiny_spaces import DIRECTIONS, MARKER, add_case, make_store, see_bright, voxels, write_nifti

from nnunet_active.annotation.archive import Archive
from nnunet_active.annotation.handoff import write_handoff
from nnunet_active.annotation.mitk_tasks import case_of_interim, says_accepted, write_task_list
from nnunet_active.annotation.records import HandoffCase
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.log import silent

CASES = ("b", "a b-1.2")


@pytest.fixture
def handed(tmp_path):
    """A hand-off folder of two oblique, anisotropic scans, their images, and the data set."""
    store, description = make_store(tmp_path / "preprocessed" / "Dataset903_Space", "SimpleITKIO", ".nii.gz")
    images = {
        case: write_nifti(tmp_path / "images" / f"{case}_0000.nii.gz", DIRECTIONS["oblique"], array=voxels(n))
        for n, case in enumerate(CASES)
    }
    cases = [add_case(store, description, image, rank=n) for n, image in enumerate(images.values(), 1)]
    archive = Archive(tmp_path / "predictions", store, description, see_bright)
    report = write_handoff(tmp_path / "handoff", cases, archive, log=silent, round_number=1)
    assert not report.problems
    return tmp_path / "handoff", images, (description, archive.reader)


def entry(case: str, **further) -> dict:
    images = [{"file": f"{case}/{case}_{n:04d}.nii.gz", "channel": name} for n, name in enumerate(("T1", "FLAIR"))]
    return {
        "images": images,
        "open_first": "FLAIR",
        "segmentation_file": f"{case}/{case}.seg.nrrd",
        "slices": {"axial": [12, 30], "coronal": []},
        **further,
    }


def tasks(folder: Path, ranks: dict[str, int], entries: dict) -> list[dict]:
    cases = [HandoffCase(RawCase(case, (), None), "FLAIR", rank) for case, rank in ranks.items()]
    write_task_list(folder, cases, entries, "Dataset204_Glioma, round 1")
    return json.loads((folder / "mitk_tasks.json").read_text())["Tasks"]


def test_each_case_is_a_task_with_the_channel_to_open_first_and_a_result_of_its_own(tmp_path):
    found = tasks(tmp_path, {"a": 2, "b": 1, "set aside": 3}, {"a": entry("a"), "b": entry("b")})
    assert [task["Name"] for task in found] == ["b", "a"]
    assert found[1] == {
        "Name": "a",
        "Description": "This is FLAIR. Look first at the slices (from 1): axial 12, 30.",
        "Image": "a/a_0001.nii.gz",
        "Segmentation": "a/a.seg.nrrd",
        "Result": "a/accepted/a.nrrd",
    }


def test_where_slices_are_asked_for_the_task_names_them(tmp_path):
    asked = {"axis": "z", "slices": [3, 8], "position_mm": [0, 0, 0]}
    (task,) = tasks(tmp_path, {"a": 1}, {"a": entry("a", asked=asked)})
    assert task["Description"] == "Label only the slices 3, 8 along z (from 1)."


def test_only_what_lies_in_the_folder_of_its_case_counts_as_accepted():
    assert says_accepted(Path("x/a/accepted/a.nii.gz"), "a")
    assert says_accepted(Path(unicodedata.normalize("NFD", "x/Müller/accepted/Müller.nrrd")), "Müller")
    assert not says_accepted(Path("x/accepted/a.nrrd"), "a") and not says_accepted(Path("x/a/a.nrrd"), "a")
    assert not says_accepted(Path("x/b/accepted/a.nrrd"), "a")
    assert case_of_interim(Path("x/a.b/accepted/a.b.interim.nrrd")) == "a.b"
    assert case_of_interim(Path("x/a/accepted/a.nrrd")) is None and case_of_interim(Path("a.interim.nrrd")) is None


def test_the_list_of_a_hand_off_folder_leads_to_its_files(handed):
    folder, _, _ = handed
    content = json.loads((folder / "mitk_tasks.json").read_text())
    assert (content["FileFormat"], content["Version"]) == ("MITK Segmentation Task List", 1)
    assert content["Name"] == "Dataset903_Space, round 1" and len(content["Tasks"]) == 2
    for task in content["Tasks"]:
        assert (folder / task["Image"]).is_file() and (folder / task["Segmentation"]).is_file()
        assert (folder / task["Result"]).parent.is_dir() and not (folder / task["Result"]).exists()


_ACCEPT = """
import json, sys
from pathlib import Path
import mitk
import numpy as np
folder = Path(sys.argv[1])
mitk.IOUtil.load(str(folder / "mitk_tasks.json"))  # raises where a task lacks something
tasks = json.loads((folder / "mitk_tasks.json").read_text())["Tasks"]
for number, task in enumerate(tasks):
    image = mitk.Image(str(folder / task["Image"]))
    seen = mitk.MultiLabelSegmentation(str(folder / task["Segmentation"]))
    assert [(one.value, one.name) for one in seen.labels] == [(1, "oedema"), (2, "core")], seen.labels
    assert np.allclose(next(iter(seen.labels)).color, [230 / 255, 75 / 255, 53 / 255], atol=1e-6)
    for name in ("spacing", "origin", "direction"):
        assert np.allclose(getattr(seen, name), getattr(image, name), atol=1e-5), name
    if number:  # a second group with a label of the same name, elsewhere
        group = seen.add_group("more")
        label = seen.add_label(mitk.Label(2, "core"), group)
        more = np.zeros_like(np.asarray(seen.get_group_image(0)))
        more[1:3, 2, 4:7] = label.value
        geometry = {name: getattr(seen, name) for name in ("spacing", "origin", "direction")}
        seen.set_group_image(group, mitk.Image(more, **geometry))
        assert label.value != 2
    seen.save(str(folder / task["Result"]))
"""


def test_mitks_own_code_reads_the_list_and_the_labels_and_what_it_saves_is_the_label_voxel_for_voxel(handed):
    folder, images, (description, reader) = handed
    run_in_mitk(_ACCEPT, folder)
    for case, image in images.items():
        result = folder / case / "accepted" / f"{case}.nrrd"
        found = read_label(case, result, image, description, reader, ".nii.gz")
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / case / f"{case}.nii.gz")))
        assert expected[MARKER] == 1
        if case == CASES[1]:
            expected[1:3, 2, 4:7] = 2
        assert np.array_equal(found.voxels, expected) and found.notes == ()
