from __future__ import annotations

import io
import sys

from nnunet_active.util.progress import bar_is_shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_and_never_into_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert bar_is_shown() and not bar_is_shown(False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not bar_is_shown()
    monkeypatch.setattr(sys, "stderr", None)  # pythonw, daemons
    assert not bar_is_shown()
