from __future__ import annotations

import numpy as np
import pandas as pd

from nnunet_active.nnunet.guarded_predictor import Verdict
from nnunet_active.training.guard_table import GUARD_COLUMNS, GuardTable


def verdict(*lost: bool) -> Verdict:
    n = len(lost)
    return Verdict(np.full(n, 100), np.full(n, 0.9), np.where(lost, 10, 90), np.array(lost))


def test_each_case_is_written_as_it_comes_without_the_background(tmp_path):
    table = GuardTable(tmp_path, ["background", "oedema", "core"], regions=False)
    table.add("001", verdict(False, False, True))
    found = pd.read_csv(tmp_path / "guard.csv", dtype={"case": str})
    assert list(found.columns) == GUARD_COLUMNS and found["label"].tolist() == ["oedema", "core"]
    assert found["adapted_voxels"].tolist() == [90, 10] and found["collapsed"].tolist() == [False, True]


def test_regions_have_no_background(tmp_path):
    table = GuardTable(tmp_path, ["whole", "core"], regions=True)
    table.add("a", verdict(False, False))
    assert table.table["label"].tolist() == ["whole", "core"]


def test_an_interrupted_prediction_goes_on_and_a_new_one_begins_anew(tmp_path):
    names = ["background", "core"]
    first = GuardTable(tmp_path, names, regions=False)
    first.add("001", verdict(False, True))
    first.add("002", verdict(False, False))
    second = GuardTable(tmp_path, names, regions=False, goes_on=True)
    second.add("002", verdict(False, True))  # it was predicted, and not exported yet
    second.add("003", verdict(False, False))
    assert second.table["case"].tolist() == ["001", "002", "003"]
    said = "\n".join(second.lines())
    assert "in 2 of 3 cases a class collapsed" in said and "  001: core" in said and "  002: core" in said
    anew = GuardTable(tmp_path, names, regions=False)
    assert list(pd.read_csv(anew.file).columns) == GUARD_COLUMNS and pd.read_csv(anew.file).empty
    anew.add("003", verdict(False, False))
    assert "no class collapsed in 1 cases" in anew.lines()[0] and len(pd.read_csv(anew.file)) == 1
