"""How a label gets into labelsTr; the whole way is in ``test_ingest`` and ``test_slice_merge``."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_dataset import write_image
from tiny_handoff import SPACING, ask, edit, hand_out, voxels
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_desk import LabelDesk
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import silent


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders, labelled=1, unlabelled=3)


def desk_of(root, target) -> tuple[LabelDesk, LabelFinder]:
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, "case_3", "case_1")
    edit(hand_out(target, campaign, root / "handoff"), "case_3")
    report = IngestReport()
    finder = LabelFinder(campaign, [], [], report)
    return LabelDesk(campaign, finder, report, silent), finder


def test_a_delivery_is_laid_into_labelstr_once_and_changes_nothing_of_the_campaign(nnunet_folders, target):
    desk, finder = desk_of(nnunet_folders, target)
    labels = finder.look()
    assert list(desk.deliver(labels)) == ["case_3"] and desk.campaign.waiting() == ["case_3", "case_1"]
    file = target.raw / "labelsTr" / "case_3.nii.gz"
    np.testing.assert_array_equal(voxels(file), truth(3))
    written = file.stat().st_ino
    desk.deliver(labels)
    assert file.stat().st_ino == written and not desk.kept.exists()


def test_what_lay_in_labelstr_is_kept(nnunet_folders, target):
    desk, finder = desk_of(nnunet_folders, target)
    labels = finder.look()
    other = write_image(target.raw / "labelsTr" / "case_3.nii.gz", np.flip(truth(3), 0), spacing=SPACING).read_bytes()
    desk.deliver(labels)
    assert [file.read_bytes() for file in desk.kept.glob("case_3__*")] == [other]


def test_a_case_that_nobody_waits_for_cannot_be_declined(nnunet_folders, target):
    desk, _ = desk_of(nnunet_folders, target)
    with pytest.raises(CampaignError, match="--decline case_2: no label is waited for"):
        desk.check_arguments(["case_2"])
