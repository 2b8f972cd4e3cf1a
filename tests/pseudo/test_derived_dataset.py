"""Names and folds of a data set of labels and pseudo-labels; the whole is tested with ``nnunet_active pseudo``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_active.pseudo.derived_dataset import derived_name, folds_on_labels_of_people
from nnunet_active.util.errors import ActiveError

CASES = st.sets(st.integers(0, 30).map("case_{:02d}".format), min_size=1)


def test_a_number_makes_a_name_from_the_targets(nnunet_folders):
    assert derived_name("7", "Dataset902_TinyTarget") == "Dataset007_TinyTarget_PseudoLabelled"


@pytest.mark.parametrize("wrong", ["Target", "Dataset1_x", "Dataset905_../x", "Dataset905"])
def test_names_that_nnunet_cannot_use_are_refused(nnunet_folders, wrong):
    with pytest.raises(ActiveError, match="neither a number nor a name"):
        derived_name(wrong, "Dataset902_TinyTarget")


@given(people=CASES, pseudo=CASES.map(lambda cases: {f"pseudo_{case}" for case in cases}), data=st.data())
def test_only_labels_of_people_validate_and_nobody_is_on_both_sides(people, pseudo, data):
    val = data.draw(st.sets(st.sampled_from(sorted(people)), max_size=len(people) - 1))
    folds = folds_on_labels_of_people(sorted(people), sorted(val), sorted(pseudo))
    for fold in folds:
        assert set(fold["train"]) | set(fold["val"]) == people | pseudo
        assert set(fold["val"]) <= people
        if len(people) > 1:
            assert not set(fold["train"]) & set(fold["val"])
    if val:
        assert [fold["val"] for fold in folds] == [sorted(val)]
    elif len(people) > 1:
        assert sorted(case for fold in folds for case in fold["val"]) == sorted(people)
