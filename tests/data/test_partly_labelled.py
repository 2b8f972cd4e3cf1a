from __future__ import annotations

import numpy as np
import pytest
from tiny_dataset import write_image
from tiny_target import make_target, truth

from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.partly_labelled import fill_ignored, find_partly_labelled

IGNORE = 3


def test_cases_with_the_ignore_value_anywhere_are_partly_labelled(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3)
    cases = target.store.labelled_identifiers()
    assert find_partly_labelled(target.store.folder, cases, None).cases == ()
    declare_ignore_label(target.raw, target.preprocessed)
    label = keep_slices(truth(1), 0, [4, 9], IGNORE)
    write_image(target.raw / "labelsTr" / "case_1.nii.gz", label, spacing=(1.5, 1.5, 1.5))
    target.preprocess()
    found = find_partly_labelled(target.store.folder, cases, IGNORE)
    assert found.cases == ("case_1",) and found.folder == target.store.folder
    np.testing.assert_array_equal(found.label("case_1")[0], label)


def test_a_prediction_stands_only_where_nobody_looked():
    drawn = np.random.default_rng(0).integers(-1, IGNORE + 1, (1, 4, 5, 6)).astype(np.int8)
    predicted = np.random.default_rng(1).integers(0, IGNORE, drawn.shape).astype(np.int16)
    filled = fill_ignored(drawn, predicted, IGNORE)
    known = drawn != IGNORE
    np.testing.assert_array_equal(filled[known], drawn[known])
    np.testing.assert_array_equal(filled[~known], predicted[~known])
    with pytest.raises(ValueError, match="cannot be filled"):
        fill_ignored(drawn, predicted[0], IGNORE)
