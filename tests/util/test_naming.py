"""Names in messages."""

from __future__ import annotations

import pytest

from nnunet_active.util.naming import first_names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["a"], "a"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdef"), "a, b, c, d, e ... (6 in all)"),
        ([1, 2], "1, 2"),
    ],
)
def test_more_than_five_names_are_counted(names, said):
    assert first_names(names) == said
