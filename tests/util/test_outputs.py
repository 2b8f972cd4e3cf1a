from __future__ import annotations

import os

import pytest

from nnunet_active.util.errors import ActiveError
from nnunet_active.util.outputs import begins_with, check_output_file, check_output_folder, keep_aside

OURS = begins_with("written by us")


def test_nothing_there_and_an_earlier_output_may_be_written(tmp_path):
    file = tmp_path / "report.html"
    check_output_file(file, OURS, "a report")
    file.write_text("<p>written by us</p>")
    check_output_file(file, OURS, "a report")


@pytest.mark.parametrize("kind", ["text", "late", "folder", "link", "fifo", "dangling", "unreadable"])
def test_anything_else_is_left_alone(tmp_path, kind):
    file = tmp_path / "report.html"
    if kind == "folder":
        file.mkdir()
    elif kind == "dangling":
        file.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":
        (tmp_path / "campaign.json").write_text("{}")
        file.symlink_to(tmp_path / "campaign.json")
    elif kind != "unreadable":
        file.write_text("thesis" if kind == "text" else " " * 5000 + "written by us")
    else:
        file.write_text("x")

    def ours(file):
        if kind == "unreadable":
            raise OSError
        return OURS(file)

    with pytest.raises(ActiveError, match="is a folder" if kind == "folder" else "is not a report of nnunet_active"):
        check_output_file(file, ours, "a report")


def handed_off(folder):
    return (folder / "handoff.json").is_file()


def test_a_folder_of_somebody_else_keeps_its_files(tmp_path):
    folder = tmp_path / "folder"
    names = ("README.txt", "worklist.csv")
    check_output_folder(folder, handed_off, names, "a hand-off folder")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    check_output_folder(folder, handed_off, names, "a hand-off folder")
    (folder / "README.txt").write_text("mine")
    with pytest.raises(ActiveError, match=r"holds README\.txt and is not a hand-off folder"):
        check_output_folder(folder, handed_off, names, "a hand-off folder")
    (folder / "handoff.json").write_text("{}")
    check_output_folder(folder, handed_off, names, "a hand-off folder")
    with pytest.raises(ActiveError, match="is a file; name a folder"):
        check_output_folder(folder / "README.txt", handed_off, names, "a hand-off folder")


def test_a_folder_that_makes_way_is_kept_under_a_name_of_its_own(tmp_path):
    kept = set()
    for content in ("first", "second"):
        folder = tmp_path / "fold_0"
        folder.mkdir()
        (folder / content).touch()
        kept.add(keep_aside(folder))
        assert not folder.exists()
    assert len(kept) == 2 and all(one.name.startswith("fold_0_until_") for one in kept)
    assert {file.name for one in kept for file in one.iterdir()} == {"first", "second"}
