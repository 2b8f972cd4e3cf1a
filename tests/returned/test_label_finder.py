from __future__ import annotations

import os

from tiny_handoff import ask, edit, hand_out
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.annotation import voxel_digest
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.log import silent


def asked(root, *picks):
    target = make_target(root, labelled=1, unlabelled=3)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, *picks)
    return target, campaign, hand_out(target, campaign, root / "handoff", slicer=True)


def test_looking_finds_what_was_edited_and_writes_nothing(nnunet_folders):
    target, campaign, folder = asked(nnunet_folders, "case_3", "case_1")
    file = edit(folder, "case_3")
    before = {path: path.stat().st_mtime_ns for path in target.root.rglob("*")}
    report = IngestReport()
    (label,) = LabelFinder(campaign, [], [], report).look().values()
    assert label.file == file and label.digest == voxel_digest(truth(3))
    assert set(label.files) == {
        str(file),
        str(file.with_name("case_3.seg.nrrd")),
    }  # so that a later change of either is noticed
    assert list(report.untouched) == ["case_1"]
    assert {path: path.stat().st_mtime_ns for path in target.root.rglob("*")} == before


def test_labels_that_are_as_they_were_preprocessed_are_not_read_again(nnunet_folders):
    target, campaign, _ = asked(nnunet_folders, "case_3")
    file = target.raw / "labelsTr" / "case_0.nii.gz"
    state = file.stat()
    file.write_bytes(b"x" * state.st_size)  # would be refused if it were read
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    report = IngestReport()
    assert LabelFinder(campaign, [], [], report).look() == {} and report.refused == {}
    os.utime(file)
    LabelFinder(campaign, [], [], report).look()
    assert "case_0" in report.refused
