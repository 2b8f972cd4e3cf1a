from __future__ import annotations

from pathlib import Path

import pytest
from killed_process import killed_after, killed_before_rename, needs_fork
from test_handoff import nifti_handoff, state_of

from nnunet_active.annotation.records import read_handoff


def everything(root: Path) -> dict[str, bytes]:
    """All files below a folder; the name of the folder itself, which the workspaces contain, is taken out."""
    return {name: content.replace(str(root).encode(), b"") for name, (_, content) in state_of(root).items()}


def undisturbed(handoff, root: Path) -> dict[str, bytes]:
    handoff.folder, handoff.archive = root / "handoff", root / "archive"
    handoff()
    return everything(root)


@needs_fork
def test_a_kill_before_any_rename_leaves_whole_cases_and_the_same_call_goes_on(tmp_path):
    handoff = nifti_handoff(tmp_path / "work", "a", "b")
    expected = undisturbed(handoff, tmp_path / "whole")
    number, killed = 0, True
    while killed:
        root = tmp_path / f"{number}"
        handoff.folder, handoff.archive = root / "handoff", root / "archive"
        killed = killed_before_rename(handoff, number)
        there = read_handoff(handoff.folder)["cases"] if (handoff.folder / "handoff.json").is_file() else {}
        for case in ("a", "b"):
            found = everything(handoff.folder / case)
            whole = {name for name in expected if name.startswith(f"handoff/{case}/")}
            assert not found or {f"handoff/{case}/{name}" for name in found} == whole
            assert case not in there or found
        handoff()
        assert everything(root) == expected
        number += 1
    assert number > 20


@needs_fork
@pytest.mark.long
def test_a_hundred_kills_at_random_moments(tmp_path):
    handoff = nifti_handoff(tmp_path / "work", *"abcd")
    expected = undisturbed(handoff, tmp_path / "whole")
    killed = 0
    for number in range(100):
        root = tmp_path / f"{number}"
        handoff.folder, handoff.archive = root / "handoff", root / "archive"
        killed += killed_after(handoff, 0.0005 * number)
        handoff()
        assert everything(root) == expected
    assert killed > 20
