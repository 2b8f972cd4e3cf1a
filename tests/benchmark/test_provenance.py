"""Versions and code digest of a benchmark's rows."""

from __future__ import annotations

from importlib.metadata import version

from nnunet_active.benchmark import provenance


def test_versions_are_those_that_are_installed_and_absent_packages_are_left_out():
    assert provenance.installed("torch", "no-such-package") == {"torch": version("torch")}
    assert {"nnunet_active", "python", *provenance.LIBRARIES} <= set(provenance.versions())


def test_the_digest_of_the_code_changes_with_any_source_file(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "deeper").mkdir()
    source = tmp_path / "deeper" / "module.py"
    source.write_text("a = 1")
    monkeypatch.setattr(provenance.nnunet_active, "__file__", str(tmp_path / "__init__.py"))
    digests = []
    for text in ("a = 1", "a = 2", "a = 1"):
        source.write_text(text)
        provenance.code_digest.cache_clear()
        digests.append(provenance.code_digest())
    provenance.code_digest.cache_clear()
    assert digests[0] == digests[2] != digests[1]
