"""Links and label maps of pseudo-labelled cases; whole sets are made in test_pseudo_labels."""

from __future__ import annotations

import os

import pytest

from nnunet_active.pseudo.pseudo_label_writer import link_file


def test_a_link_outlives_the_file_it_was_made_from(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("voxels")
    link_file(source, target)
    assert target.samefile(source) and not target.is_symlink()
    source.unlink()
    assert target.read_text() == "voxels"


def test_a_symbolic_link_can_be_asked_for(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("voxels")
    link_file(source, target, symbolic_first=True)
    assert target.is_symlink() and target.read_text() == "voxels"


@pytest.mark.parametrize(("without", "kind"), [(("link",), "symbolic"), (("link", "symlink"), "copy")])
def test_a_file_system_without_links_gets_the_next_best(tmp_path, monkeypatch, without, kind):
    def refuse(*_args, **_kwargs):
        raise OSError("not supported")

    for name in without:
        monkeypatch.setattr(os, name, refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("voxels")
    link_file(source, target)
    assert target.read_text() == "voxels"
    assert (target.is_symlink(), target.samefile(source)) == ((True, True) if kind == "symbolic" else (False, False))


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        link_file(tmp_path / "nobody", tmp_path / "nowhere" / "target")
