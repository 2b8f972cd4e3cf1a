from __future__ import annotations

import os

import pytest

from nnunet_active.nnunet_discovery import discovery_folder, export_line, is_listed, listed_folders, with_own_folder

OURS = str(discovery_folder())


@pytest.mark.parametrize(
    ("value", "listed", "line"),
    [
        ("", False, 'export nnUNet_extTrainer="$(nnunet_active trainers)"'),
        ("/theirs", False, f'export nnUNet_extTrainer="$(nnunet_active trainers){os.pathsep}$nnUNet_extTrainer"'),
        (OURS, True, None),
        (f"/theirs{os.pathsep}{OURS}", True, None),
        (f"{OURS}{os.pathsep}/theirs", True, None),
        (f"{OURS}/../nnunet_discovery{os.pathsep}", True, None),
    ],
)
def test_our_folder_counts_as_found_wherever_it_stands_in_the_list(value, listed, line):
    assert is_listed(value) is listed
    if line is not None:
        assert export_line(value) == line


def test_with_our_folder_nobody_elses_trainers_are_lost():
    assert with_own_folder("") == OURS
    assert listed_folders(with_own_folder(f"/a{os.pathsep}/b")) == [OURS, "/a", "/b"]
    assert with_own_folder(f"/a{os.pathsep}{OURS}") == f"{OURS}{os.pathsep}/a"


def test_the_variable_of_the_environment_is_the_default(monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    assert not is_listed() and listed_folders() == []
    monkeypatch.setenv("nnUNet_extTrainer", f"/a{os.pathsep}{OURS}")
    assert is_listed()
