from __future__ import annotations

import pytest
from tiny_rounds import copy_of
from tiny_served import MADE as MADE
from tiny_served import sent, served_campaign, waiting
from tiny_target import truth

from nnunet_active.server.service import (
    MODEL,
    STRATEGY,
    UnknownName,
    check_served,
    without_folders,
)
from nnunet_active.util.errors import BadCase, CampaignError, MissingInput

NAMES = ["oedema", "core"]


@pytest.fixture
def service(target):
    return served_campaign(target, "case_3", "case_1")


def test_info_has_what_the_module_lists_and_no_key_that_makes_it_stop(service):
    info = service.info()
    assert "config" not in info and info["trainers"] == {} and info["labels"] == NAMES
    assert info["models"][MODEL]["type"] == "segmentation" and info["models"][MODEL]["description"]
    assert "one scalar volume a case" in info["description"] and list(info["strategies"]) == [STRATEGY]
    assert info["datastore"] == {"total": 2, "completed": 0, "label_tags": {"final": 0, "original": 2}}


def test_the_next_sample_has_an_ending_a_checksum_and_no_path(service, target):
    sample = service.next_sample(STRATEGY, "ann")
    assert sample["id"] == "case_3" and sample["name"] == "case_3_T1.nii.gz"
    assert sample["checksum"].startswith("SHA256:") and "path" not in sample
    assert str(target.root) not in str(sample)


def test_two_annotators_never_get_the_same_case_and_then_nothing_is_left(service):
    assert [service.next_sample(STRATEGY, who).get("id") for who in ("ann", "bob", "carol")] == [
        "case_3",
        "case_1",
        None,
    ]
    assert service.next_sample(STRATEGY, "ann")["id"] == "case_3"


def test_a_label_is_taken_from_whoever_has_the_case_and_may_be_corrected_by_the_same(service, target, tmp_path):
    service.next_sample(STRATEGY, "ann")
    with pytest.raises(
        CampaignError, match="Case case_3 was given to 'ann', so that no label of it is taken from 'bob'"
    ):
        service.submit("case_3", "bob", sent(tmp_path, truth(3)), "x.nii.gz", NAMES)
    assert service.submit("case_3", "ann", sent(tmp_path, truth(3)), "x.nii.gz", NAMES)["taken"]
    assert waiting(target) == ["case_1"] and service.stats()["completed"] == 1
    corrected = truth(3)
    corrected[0, 0, 0] = 1
    assert service.submit("case_3", "ann", sent(tmp_path, corrected), "x.nii.gz", NAMES)["taken"]
    assert len(list((service.served.folder / "replaced_labels").glob("case_3__*"))) == 1
    assert service.next_sample(STRATEGY, "ann")["id"] == "case_1"


def test_a_case_that_nobody_was_given_is_that_of_whoever_first_sends_a_label_of_it_also_where_it_is_refused(
    service, tmp_path
):
    with pytest.raises(BadCase):
        service.submit("case_3", "ann", sent(tmp_path, truth(3)), "x.nii.gz", ["oedema", "liver"])
    assert service.next_sample(STRATEGY, "bob")["id"] == "case_1"
    assert service.submit("case_3", "ann", sent(tmp_path, truth(3)), "x.nii.gz", NAMES)["taken"]


def test_a_case_that_has_its_label_from_elsewhere_is_not_taken_from_anybody(service, target, tmp_path):
    service.submit("case_3", "ann", sent(tmp_path, truth(3)), "x.nii.gz", NAMES)
    service.claims._claims.clear()
    with pytest.raises(CampaignError, match="has its label already; correct it in the hand-off folder"):
        service.submit("case_3", "bob", sent(tmp_path, truth(3)), "x.nii.gz", NAMES)


def test_what_annotators_read_names_no_folder_of_this_machine(service, target, tmp_path):
    with pytest.raises(BadCase) as caught:
        service.submit("case_3", "ann", sent(tmp_path, truth(3)), "x.nii.gz", ["oedema", "liver"])
    assert str(target.root) not in str(caught.value) and "segment 'liver'" in str(caught.value)
    assert (
        without_folders(f"{target.raw}/imagesTr/a.nii.gz is odd.") == "Dataset902_TinyTarget/imagesTr/a.nii.gz is odd."
    )


def test_names_that_are_not_served_are_said(service):
    for call in (lambda: service.case("../case_3"), lambda: service.next_sample("random", "ann")):
        with pytest.raises(UnknownName, match="There is no "):
            call()


def test_the_datastore_lists_what_waits(service):
    objects = service.datastore()["objects"]
    assert list(objects) == ["case_3", "case_1"]
    assert objects["case_3"]["labels"]["original"]["info"]["params"]["label_names"] == {"oedema": 1, "core": 2}


def test_before_anything_is_handed_over_the_command_is_named(made, nnunet_folders):
    import shutil

    target = copy_of(made, nnunet_folders)
    service = served_campaign(target, "case_3")
    assert check_served(service, "nnunet_active annotate -d 902") == 1
    shutil.rmtree(target.root / "handoff")
    with pytest.raises(MissingInput, match="nnunet_active annotate -d 902 hands over"):
        check_served(service, "nnunet_active annotate -d 902")
