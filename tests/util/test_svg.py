from __future__ import annotations

import re

from nnunet_active.util.svg import with_own_ids

DRAWING = (
    '<?xml version="1.0"?>\n<svg width="9"><defs><clipPath id="p1"/><path id="m2" d="M0 0"/></defs>'
    '<g id="axes_1" clip-path="url(#p1)"><use xlink:href="#m2"/><text data-grid="7">id</text></g></svg>'
)


def test_two_drawings_in_one_page_share_no_id_and_every_reference_stays_inside_its_own():
    one, other = with_own_ids(DRAWING, "one"), with_own_ids(DRAWING, "other")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert len(ids[0]) == 3 and not ids[0] & ids[1]
    for text, own in zip((one, other), ids, strict=True):
        assert {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)} <= own


def test_only_the_element_itself_is_left_and_nothing_else_of_it_is_changed():
    found = with_own_ids(DRAWING, "x")
    assert found.startswith("<svg") and 'data-grid="7"' in found and ">id<" in found
