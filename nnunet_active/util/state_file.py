"""One reader for every file in which the package keeps its state: it checks form, then meaning, and reports both in one sentence.

The form is a dataclass (or any annotation): pydantic checks names and types strictly, so ``"3"`` is not accepted for 3. The
dataclass itself checks the meaning in ``__post_init__``.
"""

from __future__ import annotations

import codecs
import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nnunet_active.util.errors import ActiveError, CampaignError

Content = TypeVar("Content")
_MARKED = "it begins with a byte order mark, which nnU-Net does not read; save it as UTF-8 without one"


def read_state(
    file: Path, kind: type[Content], what: str, advice: str = "restore it from a backup", error: type = CampaignError
) -> Content:
    """Read and check a JSON file.

    Args:
        file: an existing file.
        kind: a dataclass, or another annotation of the content; unknown names are ignored.
        what: what the file should be, for people: ``a campaign file``.
        advice: what to do if it is not.
        error: type of the error.

    Raises:
        ActiveError: it cannot be read, or is not what it should be; says which file, what was found, and what to do.
    """
    try:
        return _adapter(kind).validate_json(file.read_bytes(), strict=True)
    except ValidationError as found:
        marked = file.read_bytes().startswith(codecs.BOM_UTF8)
        reason = _MARKED if marked else _first(found)
    except (ActiveError, ValueError) as found:
        reason = str(found)
    except OSError as found:
        reason = found.strerror or str(found)
    raise error(f"{file} is not {what} ({reason.rstrip('.')}); {advice}.")


def read_checked_json(
    file: Path, kind: Any, what: str, advice: str = "restore it from a backup", error: type = CampaignError
) -> Any:
    """As :func:`read_state`, plus the raw JSON content, with names that ``kind`` does not know."""
    read_state(file, kind, what, advice, error)
    return json.loads(file.read_text(encoding="utf-8"))


def read_remade_json(file: Path) -> Any:
    """Content of a JSON file that can be made anew; None if it is missing or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def conforms(value: Any, kind: Any) -> str:
    """Why a JSON value does not match a type; empty if it does."""
    try:
        _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as found:
        return _first(found)
    except (ActiveError, ValueError) as found:
        return str(found).rstrip(".")
    return ""


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _first(found: ValidationError) -> str:
    """``settings.budget: 'five' - input should be a valid integer``."""
    one = found.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in one["loc"])
    value = "" if one["type"] in ("json_invalid", "missing") else f"{one['input']!r:.60} - "
    message = f"{one['msg'][0].lower()}{one['msg'][1:]}"
    return f"{place}: {value}{message}" if place else f"{value}{message}"
