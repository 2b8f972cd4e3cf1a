"""Settings that a person wrote as JSON: checks that each is known and has its dataclass's type, else one sentence names it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from nnunet_active.util.errors import CampaignError
from nnunet_active.util.state_file import conforms


def checked_settings(
    kind: type, what: str, content: Any, flags: Mapping[str, str] | None = None, unchecked: Collection[str] = ()
) -> dict[str, Any]:
    """Check the content and return a copy.

    Args:
        kind: the dataclass.
        what: what the settings belong to, for people: ``A benchmark``.
        content: the JSON content.
        flags: command line flags that can give the same settings.
        unchecked: settings whose type is not checked here.

    Raises:
        CampaignError: the content is no object, has an unknown setting or one of the wrong type, or lacks a required one.
    """
    if not isinstance(content, dict):
        raise CampaignError(f"{what} is given as {content!r}; it must be a text or a JSON object.")
    if unknown := sorted(set(content) - {entry.name for entry in fields(kind)}):
        raise CampaignError(f"{what} has no setting '{unknown[0]}'.")
    for entry in fields(kind):
        if entry.name not in content and entry.default is MISSING and entry.default_factory is MISSING:
            how = f" with {flags[entry.name]}" if flags and entry.name in flags else ""
            raise CampaignError(f"{what} needs the setting '{entry.name}'; name it{how}.")
    for name, form in get_type_hints(kind).items():
        if name in content and name not in unchecked and (reason := conforms(content[name], form)):
            raise CampaignError(f"{what} has the setting '{name}' in a form that it cannot have ({reason}).")
    return dict(content)
