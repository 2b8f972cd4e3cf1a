from __future__ import annotations

import itertools
import json
import os
import stat
import time
from pathlib import Path

import pytest
from killed_process import killed_after, killed_before_rename, needs_fork

from nnunet_active.util.atomic import (
    atomic_file,
    atomic_folder,
    copy_file,
    replaced_folder,
    sweep,
    temporary_folder,
    write_json,
    write_text,
)

FILL = "x" * 300_000


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_private_file_is_nobody_elses_to_read(tmp_path):
    for private, mode in ((True, 0), (False, 0o044)):
        with atomic_file(tmp_path / "a", private=private) as temporary:
            temporary.write_text("x")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o044 == mode


def write_for_ever(folder: Path) -> None:
    for number in itertools.count():
        write_json(folder / "state.json", {"number": number, "fill": FILL})
        with atomic_folder(folder / f"round_{number:05d}") as temporary:
            for name in "abc":
                (temporary / name).write_text(FILL)


@needs_fork
@pytest.mark.parametrize("delay", [0.02, 0.033, 0.05, 0.081])
def test_a_kill_at_any_moment_leaves_whole_files_and_folders(tmp_path, delay):
    write_json(tmp_path / "state.json", {"number": -1, "fill": FILL})
    assert killed_after(lambda: write_for_ever(tmp_path), delay)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["fill"] == FILL
    rounds = visible(tmp_path)[:-1]
    assert len(rounds) in (state["number"], state["number"] + 1)
    for name in rounds:
        assert {file.name: file.read_text() for file in (tmp_path / name).iterdir()} == dict.fromkeys("abc", FILL)
    assert all(name.endswith(".tmp") for name in leftovers(tmp_path))


@needs_fork
def test_a_kill_before_the_rename_leaves_the_old_content_and_a_hidden_file(tmp_path):
    file = tmp_path / "state.json"
    write_text(file, "old")
    assert killed_before_rename(lambda: write_text(file, "new"), 0)
    assert file.read_text() == "old"
    (left,) = leftovers(tmp_path)
    assert left.startswith(".state.json.") and left.endswith(".tmp")
    write_text(file, "new")
    assert file.read_text() == "new"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a" / "state.json"
    write_text(file, "old")

    def fail() -> None:
        with atomic_file(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert file.read_text() == "old" and os.listdir(file.parent) == ["state.json"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"b": object()})
    assert (tmp_path / "a.json").read_text() == '{\n    "b": 1,\n    "a": 2\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "x" / "round") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text("content")
        assert not (tmp_path / "x" / "round").exists()
    assert (tmp_path / "x" / "round" / "deep" / "file").read_text() == "content"

    def fail() -> None:
        with atomic_folder(tmp_path / "x" / "other") as temporary:
            (temporary / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path / "x") == ["round"]


def test_a_folder_that_exists_is_not_replaced(tmp_path):
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "file").write_text("first")

    def again() -> None:
        with atomic_folder(tmp_path / "round") as temporary:
            (temporary / "file").write_text("second")

    with pytest.raises(OSError):
        again()
    assert (tmp_path / "round" / "file").read_text() == "first" and os.listdir(tmp_path) == ["round"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_and_folders_get_the_permissions_that_the_user_asked_for(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "")
        with atomic_folder(tmp_path / "folder"):
            pass
        assert os.umask(umask) == umask  # it is not changed
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_a_copy_keeps_content_and_modification_time_and_replaces_the_target(tmp_path):
    (tmp_path / "source").write_bytes(b"\x00\r\n\xff")
    os.utime(tmp_path / "source", (time.time(), 1_000_000_000))
    write_text(tmp_path / "target", "old")
    copy_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"\x00\r\n\xff"
    assert (tmp_path / "target").stat().st_mtime == 1_000_000_000
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "absent", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"\x00\r\n\xff"
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_text_is_utf_8_with_unix_line_ends_everywhere(tmp_path):
    write_text(tmp_path / "file", "ödem\nμ\n")
    assert (tmp_path / "file").read_bytes() == "ödem\nμ\n".encode()


@needs_fork
def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path):
    below = tmp_path / "below"
    below.mkdir()

    def leave() -> None:
        with atomic_folder(below / "folder") as temporary:
            (temporary / "file").write_text("half")
            write_text(tmp_path / ("x" * 240), "never there")

    assert killed_before_rename(leave, 0)
    others = [".hidden.tmp", ".file.abcdefgh.tmp", f".file.00000000-{2**22 + 1}-x.tmp", "file.tmp"]
    for name in others:
        (tmp_path / name).write_text("not ours")
    with temporary_folder(tmp_path / "at work") as alive:
        before = len(leftovers(tmp_path))
        gone = sweep(tmp_path, tmp_path / "not there")
        assert alive.is_dir() and len(gone) == 2 and before - len(leftovers(tmp_path)) == 1
    assert leftovers(below) == [] and {*others} == {path.name for path in tmp_path.iterdir()} - {"below"}
    assert sweep(tmp_path) == []


def replace(folder: Path, content: str) -> None:
    with replaced_folder(folder) as new:
        (new / "a").write_text(content)
        (new / content).touch()


def test_a_folder_takes_the_place_of_another_one_whole(tmp_path):
    for content in ("old", "new"):
        replace(tmp_path / "kept", content)
        assert sorted(os.listdir(tmp_path / "kept")) == ["a", content] and os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_the_old_folder_is_put_back_where_the_new_one_cannot_be_moved_in(tmp_path, monkeypatch, error):
    folder, rename = tmp_path / "kept", os.rename
    replace(folder, "old")

    def fails(source, target):
        if Path(source).name == "new" and Path(target) == folder:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(type(error)):
        replace(folder, "new")
    assert (folder / "a").read_text() == "old" and os.listdir(tmp_path) == ["kept"]


@needs_fork
def test_a_kill_at_any_rename_of_a_replacement_loses_neither_folder(tmp_path):
    folder, found = tmp_path / ("kept" * 60), []  # longer than what its temporary name holds of it
    for number in range(10):
        replace(folder, "old")
        killed = killed_before_rename(lambda: replace(folder, "new"), number)
        sweep(tmp_path)
        assert os.listdir(tmp_path) == [folder.name]
        found.append((folder / "a").read_text())
        assert sorted(os.listdir(folder)) == ["a", found[-1]]
        if not killed:
            break
    assert found == ["old"] * (len(found) - 1) + ["new"] and len(found) >= 4
