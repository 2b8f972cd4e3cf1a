from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_campaigns import labelled_by_slices, without_new_slices
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.raw_dataset import RawDataset


def campaign_of(target, oracle: str, *cases: str) -> Campaign:
    settings = Settings(budget=9, unit="slice", oracle=oracle, query_size=2, stride=2, epochs=20)
    made = Campaign.create(Place.of(NAME, "3d_fullres", PLANS, "0"), settings)
    table = pd.DataFrame({"mean_entropy": 0.5, "utility": 0.5}, index=list(cases))
    utilities = pd.DataFrame(np.ones((len(cases), len(cases))), columns=list(cases))
    slices = {case: SliceRequest("z", (3,)) for case in cases}
    made.append_round(RoundContent(list(cases), table, utilities, pd.DataFrame({"case": cases}), slices=slices))
    return made


def test_a_new_label_of_slices_is_left_to_ingest_and_everything_else_is_preprocessed(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2, unlabelled=3)
    campaign_of(target, "folder", "case_0", "case_2")
    assert labelled_by_slices(target.preprocessed) == {"case_0", "case_2"}
    described = json.loads((target.raw / "dataset.json").read_text())

    def ready():
        return without_new_slices(RawDataset(target.raw), target.store, described)

    assert ready().cases == RawDataset(target.raw).cases and not ready().warnings  # nothing has changed
    target.label("case_2")
    target.label("case_3")  # nobody asks for slices of it
    for case in ("case_0", "case_1"):
        os.utime(target.raw / "labelsTr" / f"{case}.nii.gz", (2e9, 2e9))
    found, raw = ready(), RawDataset(target.raw)
    assert set(raw.cases) - set(found.cases) == {"case_0"}  # its earlier label stays in use
    assert [name for name, case in found.cases.items() if case.label is None] == ["case_2", "case_4"]
    assert sorted(found.warnings) == ["case_0", "case_2"] and "ingest" in found.warnings["case_2"]


def test_labels_that_are_withheld_or_whole_are_no_matter(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3)
    campaign = campaign_of(target, "retrospective", "case_0")
    assert labelled_by_slices(target.preprocessed) == set()
    (campaign.folder / "campaign.json").write_text("[")
    assert labelled_by_slices(target.preprocessed) == set()
