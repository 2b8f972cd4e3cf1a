from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from nnunet_active.benchmark.checked_settings import checked_settings
from nnunet_active.util.errors import CampaignError


@dataclass
class Shop:
    name: str
    prices: dict[str, float] = field(default_factory=dict)
    floors: int | None = None


def test_settings_of_the_right_form_are_copied():
    content = {"name": "x", "prices": {"bread": 2}, "floors": None}
    found = checked_settings(Shop, "A shop", content)
    assert found == content and found is not content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x", "A shop is given as 'x'; it must be a text or a JSON object."),
        ({"name": "x", "roof": 1}, "A shop has no setting 'roof'."),
        ({"floors": 1}, "A shop needs the setting 'name'; name it with -n."),
        ({"name": 5}, "A shop has the setting 'name' in a form that it cannot have"),
        ({"name": "x", "prices": []}, "A shop has the setting 'prices' in a form that it cannot have"),
        ({"name": "x", "floors": "two"}, "A shop has the setting 'floors' in a form that it cannot have"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_names_it(content, said):
    with pytest.raises(CampaignError) as caught:
        checked_settings(Shop, "A shop", content, {"name": "-n"})
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_a_form_that_is_checked_elsewhere_is_left_alone():
    assert checked_settings(Shop, "A shop", {"name": "x", "floors": "two"}, unchecked=["floors"])["floors"] == "two"
