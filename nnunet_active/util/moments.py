"""Times as text in files: written in UTC, with the zone, and shown to people in their machine's local time.

A campaign may be written in a container that runs in UTC and read on a laptop in Berlin; both must mean the same time.
"""

from __future__ import annotations

from datetime import datetime, timezone


def now_in_utc(timespec: str = "seconds") -> str:
    """The present time, in ISO format with its zone: ``2026-05-01T10:00:00+00:00``."""
    return datetime.now(timezone.utc).isoformat(timespec=timespec)


def seconds_of(text: str) -> float:
    """Seconds since the epoch (1970) for a time in ISO format; without a zone, as in earlier versions, it is local time.

    Raises:
        ValueError: the text is no time.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:  # a year outside the range of this machine's clock
        raise ValueError(f"{text} is no moment") from error


def for_people(moment: str | float) -> str:
    """``2026-05-01 12:00`` in this machine's local time; a text that is no time is returned unchanged.

    Args:
        moment: ISO format, or seconds since the epoch.
    """
    try:
        seconds = seconds_of(moment) if isinstance(moment, str) else moment
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return str(moment)
