from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_active.data.partial_labels import (
    check_slices,
    forget_background,
    is_partial,
    keep_slices,
    labelled_slices,
    merge_slices,
)

IGNORE = 3
SHAPE = (5, 4, 3)
labels = arrays(np.uint8, SHAPE, elements=st.integers(0, IGNORE - 1))
returns = arrays(np.uint8, SHAPE, elements=st.integers(0, IGNORE))
axes = st.integers(0, 2)


def some_slices(data, axis, name="slices"):
    return data.draw(st.sets(st.integers(0, SHAPE[axis] - 1)), label=name)


@settings(max_examples=60, deadline=None)
@given(label=labels, axis=axes, data=st.data())
def test_the_ignore_value_is_everywhere_else_bit_for_bit(label, axis, data):
    slices = some_slices(data, axis)
    found = keep_slices(label, axis, slices, IGNORE)
    for index in range(SHAPE[axis]):
        expected = label.take(index, axis) if index in slices else np.full_like(label.take(index, axis), IGNORE)
        np.testing.assert_array_equal(found.take(index, axis), expected)
    assert labelled_slices(found, axis, IGNORE) == sorted(slices)
    assert is_partial(found, IGNORE) == (len(slices) < SHAPE[axis])


def test_a_value_that_does_not_fit_widens_the_label():
    found = keep_slices(np.full((2, 1, 1), 200, dtype=np.uint8), 0, [0], 256)
    assert found.dtype == np.uint16 and found.ravel().tolist() == [200, 256]


def test_without_an_ignore_label_every_slice_is_labelled():
    label = np.zeros(SHAPE, dtype=np.uint8)
    assert labelled_slices(label, 1, None) == [0, 1, 2, 3] and not is_partial(label, None)


@settings(max_examples=100, deadline=None)
@given(before=returns, returned=returns, axis=axes, data=st.data())
def test_no_labelled_voxel_becomes_ignored_and_no_labelled_slice_is_forgotten(before, returned, axis, data):
    take = some_slices(data, axis, "take")
    merged = merge_slices(before, returned, axis, take, IGNORE)
    assert (merged.label != IGNORE)[before != IGNORE].all()
    earlier = labelled_slices(before, axis, IGNORE)
    assert set(labelled_slices(merged.label, axis, IGNORE)) == {*earlier, *merged.taken}
    assert set(merged.taken) <= take - set(earlier)


@settings(max_examples=100, deadline=None)
@given(before=returns, returned=returns, axis=axes, data=st.data())
def test_every_voxel_is_the_new_one_or_the_old_one(before, returned, axis, data):
    merged = merge_slices(before, returned, axis, some_slices(data, axis), IGNORE).label
    assert ((merged == before) | (merged == returned)).all()


@settings(max_examples=100, deadline=None)
@given(before=returns, returned=returns, axis=axes, data=st.data())
def test_merging_the_same_file_again_changes_nothing(before, returned, axis, data):
    take = some_slices(data, axis)
    once = merge_slices(before, returned, axis, take, IGNORE)
    again = merge_slices(once.label, returned, axis, take, IGNORE)
    np.testing.assert_array_equal(again.label, once.label)
    assert again.taken == again.corrected == ()


@settings(max_examples=60, deadline=None)
@given(label=labels, axis=axes, data=st.data())
def test_the_order_in_which_slices_come_in_does_not_matter(label, axis, data):
    order = data.draw(st.permutations(range(SHAPE[axis])))
    merged = None
    for index in order:
        merged = merge_slices(merged, label, axis, [index], IGNORE).label
    np.testing.assert_array_equal(merged, label)


def test_a_corrected_slice_of_an_earlier_round_is_taken_over():
    before = keep_slices(np.ones(SHAPE, dtype=np.uint8), 0, [1], IGNORE)
    returned = before.copy()
    returned[1, 0, 0] = 2
    returned[4] = 0
    merged = merge_slices(before, returned, 0, [4], IGNORE)
    assert merged.corrected == (1,) and merged.taken == (4,) and merged.kept == ()
    assert merged.label[1, 0, 0] == 2 and not merged.label[4].any()


@pytest.mark.parametrize("value", [0, IGNORE])
def test_an_earlier_slice_that_comes_back_blank_keeps_its_label(value):
    before = keep_slices(np.ones(SHAPE, dtype=np.uint8), 0, [1], IGNORE)
    returned = np.full(SHAPE, value, dtype=np.uint8)
    returned[4] = 1
    merged = merge_slices(before, returned, 0, [4], IGNORE)
    assert (merged.label[1] == 1).all() and merged.corrected == ()
    assert merged.kept == ((1,) if value == 0 else ())  # what was not handed back at all needs no word


def test_background_in_slices_that_nobody_asked_for_is_not_taken():
    returned = np.zeros(SHAPE, dtype=np.uint8)  # a program that does not know the ignore value
    returned[2, 1:3, 1] = 1
    merged = merge_slices(None, returned, 0, [2], IGNORE)
    assert labelled_slices(merged.label, 0, IGNORE) == [2]


def test_labels_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="cannot be merged"):
        merge_slices(np.zeros((2, 2, 2), dtype=np.uint8), np.zeros(SHAPE, dtype=np.uint8), 0, [0], IGNORE)


def test_what_was_touched_what_not_what_is_absent_empty_or_drawn():
    given = keep_slices(np.ones(SHAPE, dtype=np.uint8), 0, [0, 1, 2, 3], IGNORE)
    returned = given.copy()
    returned[1, 2, 2] = 2  # corrected
    returned[2] = 0  # emptied
    returned[3] = IGNORE  # taken out
    returned[4, 0, 0] = 1  # nobody asked
    found = check_slices(returned, given, 0, [0, 1, 2, 3], IGNORE)
    assert (found.touched, found.untouched) == ((1, 2), (0,))
    assert (found.absent, found.empty, found.drawn) == ((3,), (2,), (4,))


def test_what_was_labelled_before_does_not_count_as_drawn():
    before = keep_slices(np.ones(SHAPE, dtype=np.uint8), 0, [1], IGNORE)
    returned = before.copy()
    returned[0] = 1
    assert check_slices(returned, None, 0, [0], IGNORE, before).drawn == ()
    assert check_slices(returned, None, 0, [0], IGNORE).drawn == (1,)


def test_without_knowing_what_was_handed_over_every_slice_counts_as_touched():
    returned = np.zeros(SHAPE, dtype=np.uint8)
    assert check_slices(returned, None, 2, [0, 2], IGNORE).touched == (0, 2)


@settings(max_examples=60, deadline=None)
@given(label=returns, axis=axes, data=st.data())
def test_background_is_forgotten_where_nobody_was_asked_and_nothing_was_drawn(label, axis, data):
    slices = some_slices(data, axis)
    found = forget_background(label, axis, slices, IGNORE)
    for index in range(SHAPE[axis]):
        before, after = label.take(index, axis), found.take(index, axis)
        drawn = ((before != 0) & (before != IGNORE)).any()
        np.testing.assert_array_equal(after, before if index in slices or drawn else np.full_like(before, IGNORE))
    np.testing.assert_array_equal(forget_background(found, axis, slices, IGNORE), found)


def test_a_slice_that_comes_back_as_it_did_before_undoes_no_correction():
    before, returned = np.full((3, 1, 2), 9), np.full((3, 1, 2), 9)
    before[0], returned[0], returned[1] = 2, 1, 1
    merged = merge_slices(before, returned, 0, [1], 9, repeated=[0])
    assert merged.label[0].tolist() == [[2, 2]] and merged.label[1].tolist() == [[1, 1]]
    assert (merged.taken, merged.corrected, merged.outdated) == ((1,), (), (0,))
    assert merge_slices(before, returned, 0, [1], 9).corrected == (0,)
