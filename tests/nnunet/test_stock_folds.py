from __future__ import annotations

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_active.nnunet.stock_folds import stock_folds

ALONE = {f"case_{i}": [f"case_{i}"] for i in range(7)}


def test_every_case_validates_in_exactly_one_of_five_folds_which_are_nnunets():
    folds = stock_folds(dict(reversed(ALONE.items())))
    assert folds == generate_crossval_split(sorted(ALONE), seed=12345, n_splits=5)
    assert len(folds) == 5 and sorted(case for fold in folds for case in fold["val"]) == sorted(ALONE)


def test_the_scans_of_a_patient_are_on_one_side_of_every_fold():
    patients = {f"p{i}": [f"p{i}_ed", f"p{i}_es"] for i in range(6)}
    for fold in stock_folds(patients):
        sides = [{case[:2] for case in fold[part]} for part in ("train", "val")]
        assert not sides[0] & sides[1] and len(fold["train"]) + len(fold["val"]) == 12


def test_fewer_than_five_patients_have_no_folds():
    assert stock_folds({name: [f"{name}1", f"{name}2"] for name in "abcd"}) is None
