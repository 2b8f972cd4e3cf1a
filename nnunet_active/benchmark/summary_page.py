"""The summary as one HTML page that needs no other file: the figures are inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from nnunet_active import __version__
from nnunet_active.benchmark.markdown import cell_text
from nnunet_active.util.atomic import write_text
from nnunet_active.util.svg import with_own_ids


def write_page(file: Path, title: str, sections: Sequence[Any]) -> None:
    """Fill the template.

    Args:
        file: where to.
        title: of the page.
        sections: with ``title``, ``text``, ``table`` (or None) and ``figures``.
    """
    environment = Environment(loader=PackageLoader("nnunet_active.benchmark", "templates"), autoescape=True)
    environment.filters["cell"] = cell_text
    content = [
        {"section": section, "svg": [_inline(f) for f in section.figures if f.suffix == ".svg"]} for section in sections
    ]
    template = environment.get_template("summary.html")
    write_text(file, template.render(title=title, version=__version__, content=content))


def _inline(file: Path) -> Markup:
    own = with_own_ids(file.read_text(encoding="utf-8"), re.sub(r"\W", "_", file.stem))
    return Markup(own)  # safe: matplotlib has just written it
