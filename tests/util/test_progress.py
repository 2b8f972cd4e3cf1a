from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import nnunet_active.planners
import nnunet_active.trainers
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


def test_every_bar_of_the_package_asks_whether_it_is_shown_and_nnunets_own_are_switched_off():
    package = Path(nnunet_active.__file__).parent
    calls = [
        (file, call)
        for folder in (
            package,
            Path(nnunet_active.trainers.__file__).parent,
            Path(nnunet_active.planners.__file__).parent,
        )
        for file in folder.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    ]
    bars, predictors = ([one for one in calls if one[1].func.id == name] for name in ("tqdm", "nnUNetPredictor"))
    assert len(bars) >= 7 and len(predictors) >= 3
    for file, call in bars:
        assert "bar_is_shown" in file.read_text(encoding="utf-8"), file
        assert any(one.arg == "disable" for one in call.keywords), f"{file}:{call.lineno}"
    for file, call in predictors:
        assert any(one.arg == "allow_tqdm" and not one.value.value for one in call.keywords), f"{file}:{call.lineno}"
