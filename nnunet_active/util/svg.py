"""Prepares matplotlib's drawings for embedding in one HTML page."""

from __future__ import annotations

import re


def with_own_ids(svg: str, prefix: str) -> str:
    """The drawing's svg element, with ids and references that no drawing with another prefix shares.

    >>> with_own_ids('<?xml?><svg><g id="a"/><use href="#a" style="clip-path: url(#a)"/></svg>', "one")
    '<svg><g id="one-a"/><use href="#one-a" style="clip-path: url(#one-a)"/></svg>'
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
