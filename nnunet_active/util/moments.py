"""When something happened, as text in a file: written in UTC, with its zone, and shown to people in the time of their machine.

A campaign may be written in a container that runs in UTC and read on a laptop in Berlin; both have to mean the same moment.
"""

from __future__ import annotations

from datetime import datetime, timezone


def now_in_utc(timespec: str = "seconds") -> str:
    """This moment, in ISO format with its zone: ``2026-05-01T10:00:00+00:00``."""
    return datetime.now(timezone.utc).isoformat(timespec=timespec)


def seconds_of(text: str) -> float:
    """Seconds since the epoch (1970) of a moment in ISO format; without a zone, as earlier versions wrote it, it is local time.

    Raises:
        ValueError: it is no moment.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:  # a year that this machine's clock cannot have
        raise ValueError(f"{text} is no moment") from error


def for_people(moment: str | float) -> str:
    """``2026-05-01 12:00`` on the clock of this machine; a text that is no moment is shown as it is.

    Args:
        moment: ISO format, or seconds since the epoch.
    """
    try:
        seconds = seconds_of(moment) if isinstance(moment, str) else moment
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return str(moment)
