from __future__ import annotations

from nnunet_active.nnunet.stock_folds import stock_folds


def test_every_case_validates_in_exactly_one_of_five_folds():
    cases = [f"case_{i}" for i in range(7)]
    folds = stock_folds(reversed(cases))
    assert len(folds) == 5 and sorted(case for fold in folds for case in fold["val"]) == cases
    assert all(sorted([*fold["train"], *fold["val"]]) == cases for fold in folds)


def test_fewer_than_five_cases_have_no_folds():
    assert stock_folds(["a", "b", "c", "d"]) is None
