from __future__ import annotations

from nnunet_active.util.folders import files_below


def write(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    return file


def test_files_lie_at_any_depth_and_in_linked_folders(tmp_path):
    files = [write(tmp_path / "here" / name) for name in ("a", "x/b", "x/y/c")]
    write(tmp_path / "there" / "z" / "d")
    (tmp_path / "here" / "moved").symlink_to(tmp_path / "there")
    assert files_below(tmp_path / "here") == sorted([*files, tmp_path / "here" / "moved" / "z" / "d"])
    assert files_below(tmp_path / "nowhere") == []


def test_links_in_a_circle_end_and_a_file_is_found_once_in_its_own_place(tmp_path):
    file = write(tmp_path / "x" / "b")
    (tmp_path / "a_link").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "up").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    assert [one for one in files_below(tmp_path) if one.name == "b"] == [file]
