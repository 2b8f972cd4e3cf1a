"""Settings given as NAME=VALUE."""

import pytest

from nnunet_active.util.errors import CampaignError
from nnunet_active.util.named_values import parse_options, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=0.5", 0.5), ("a=true", True), ("a=[1, 2]", [1, 2]), ("a=x=y", "x=y"), ("a=", "")],
)
def test_a_value_is_json_where_it_can_be_and_text_where_not(text, value):
    assert parse_options("--x", [text]) == {"a": value}


def test_brackets_without_end_are_text():
    assert value_of("[" * 100_000) == "[" * 100_000


def test_a_pair_without_a_sign_is_refused_with_the_flag_it_came_from():
    with pytest.raises(CampaignError, match=r"--fine-tuning compare has no .=.; write NAME=VALUE\."):
        parse_options("--fine-tuning", ["compare"])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(CampaignError, match=f"--x a={value} makes no sense; a number must be finite"):
        parse_options("--x", [f"a={value}"])
