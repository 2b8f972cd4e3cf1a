"""Progress bars, only for people at a terminal: in a log file, each of their steps would be a line of its own."""

from __future__ import annotations

import sys


def bar_is_shown(wanted: bool = True) -> bool:
    """Whether a progress bar is drawn.

    Args:
        wanted: whether there is anything to show, and this process should show it.
    """
    return wanted and sys.stderr is not None and sys.stderr.isatty()
