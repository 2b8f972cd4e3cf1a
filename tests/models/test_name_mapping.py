from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_active.models.name_mapping import map_channels, map_heads


def test_equal_names_are_matched_in_their_order():
    assert map_channels(["MRI", "MRI"], ["mri", "CT", "MRI "]).indices == (0, None, 1)


names = st.lists(st.sampled_from(["T1", "t1", "FLAIR", "CT", "PET"]), min_size=1, max_size=5)


@given(names, names)
def test_no_source_channel_feeds_two_target_channels_by_name(source, target):
    mapping = map_channels(source, target)
    fed = [index for index in mapping.indices if index is not None]
    assert len(fed) == len(set(fed)) and len(mapping.indices) == len(target)
    assert mapping.sentences()
    weight = torch.rand(2, len(source), 3)
    assert mapping.apply(weight).shape == (2, len(target), 3)
    if mapping.kind == "shared":
        torch.testing.assert_close(mapping.apply(weight).sum(1), weight.sum(1))


@given(names)
def test_the_same_names_are_the_identity(names):
    assert map_channels(names, names).identity


@pytest.mark.parametrize(
    ("source", "target", "indices", "trained"),
    [
        (["background", "RV", "LV"], ["background", "lv ", "scar"], (0, 2, None), True),
        (["whole", "core"], ["core", "whole"], (1, 0), True),
        (["background", "RV"], ["background", "tumour"], (None, None), False),
        (["background", "core"], ["core"], (None,), False),
        (["core"], ["background", "core"], (None, None), False),
    ],
)
def test_heads_are_matched_by_name_and_labels_never_with_regions(source, target, indices, trained):
    mapping = map_heads(source, target)
    assert (mapping.indices, mapping.trained, bool(mapping.reason)) == (indices, trained, not trained)
