from __future__ import annotations

import json
import shutil

import numpy as np
import SimpleITK as sitk
from tiny_dataset import write_image
from tiny_target import make_target

from nnunet_active.campaign.oracle import FolderOracle, RetrospectiveOracle


def test_the_retrospective_oracle_offers_labelled_cases_only_and_answers_at_once(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2, unlabelled=1)
    oracle = RetrospectiveOracle(target.store)
    assert oracle.candidates() == ["case_0", "case_1"]
    assert oracle.reveal(["case_1"]) == (["case_1"], {})


def test_the_folder_oracle_offers_unlabelled_cases_and_takes_a_label_in_when_it_is_there(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=2)
    oracle = FolderOracle(target.store, target.raw)
    assert oracle.candidates() == ["case_1", "case_2"]
    assert oracle.reveal(["case_2"]) == ([], {})
    target.label("case_2")
    assert oracle.reveal(["case_2", "case_1"]) == (["case_2"], {})
    assert target.store.labelled_identifiers() == ["case_0", "case_2"]
    assert oracle.candidates() == ["case_1"]


def test_a_refused_label_is_named_left_where_it_is_and_does_not_hold_up_the_others(nnunet_folders):
    target = make_target(nnunet_folders, labelled=0, unlabelled=2)
    wrong = target.raw / "labelsTr" / "case_0.nii.gz"
    write_image(wrong, np.ones((3, 3, 3), dtype=np.uint8))
    content = wrong.read_bytes()
    target.label("case_1")
    ready, refused = FolderOracle(target.store, target.raw).reveal(["case_0", "case_1"])
    assert ready == ["case_1"]
    assert list(refused) == ["case_0"]
    assert "case_0" in refused["case_0"]
    assert wrong.read_bytes() == content


def test_a_label_in_another_format_answers_the_folder_oracle_too(nnunet_folders):
    target = make_target(nnunet_folders, labelled=0, unlabelled=1)
    target.label("case_0")
    file = target.raw / "labelsTr" / "case_0.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(file)), str(file.with_name("case_0.nrrd")))
    file.unlink()
    assert FolderOracle(target.store, target.raw).reveal(["case_0"]) == (["case_0"], {})
    assert target.store.labelled_identifiers() == ["case_0"]


def test_a_class_that_only_the_raw_dataset_json_knows_is_refused_as_nnunet_trains_without_it(nnunet_folders):
    target = make_target(nnunet_folders, labelled=0, unlabelled=1)
    shutil.copy(target.raw / "dataset.json", target.preprocessed / "dataset.json")
    described = json.loads((target.raw / "dataset.json").read_text())
    value = len(described["labels"])
    described["labels"]["cyst"] = value
    (target.raw / "dataset.json").write_text(json.dumps(described))
    label = sitk.ReadImage(str(target.label("case_0")))
    array = sitk.GetArrayFromImage(label)
    array[array > 0] = value
    file = target.raw / "labelsTr" / "case_0.nii.gz"
    write_image(file, array, spacing=label.GetSpacing(), origin=label.GetOrigin())
    ready, refused = FolderOracle(target.store, target.raw).reveal(["case_0"])
    assert ready == [] and f"has the value(s) {value}" in refused["case_0"]
