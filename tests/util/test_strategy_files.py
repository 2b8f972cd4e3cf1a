from __future__ import annotations

import pytest

from nnunet_active.strategies import get_strategy
from nnunet_active.util.strategy_files import colon_separated, found_from_anywhere, names_a_file, split_name


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a/b.py:Mine", ("a/b.py", "Mine")), ("b.py", ("b.py", "")), ("~/c.d/b.py:Mine", ("~/c.d/b.py", "Mine"))],
)
def test_a_file_and_its_class_are_told_apart(name, parts):
    assert names_a_file(name) and split_name(name) == parts
    assert not names_a_file("entropy") and not names_a_file("python.pyx:Mine")


def test_a_file_that_is_there_gets_its_full_path_wherever_it_stands(tmp_path, monkeypatch):
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    place = f"{tmp_path / 'mine.py'}:Mine"
    given = {"member": "mine.py:Mine", "members": ["mine.py:Mine", "entropy"], "factor": 2.0, "none": None}
    assert found_from_anywhere(given) == {**given, "member": place, "members": [place, "entropy"]}
    assert found_from_anywhere(place) == place and found_from_anywhere("no.py:Mine") == "no.py:Mine"


def test_a_colon_that_leads_to_a_class_separates_nothing():
    assert colon_separated("random:a=1:b") == ["random", "a=1", "b"]
    assert colon_separated("mine.py:Mine:a=1:once", ["once"]) == ["mine.py:Mine", "a=1", "once"]
    assert colon_separated("mine.py:once:a=1", ["once"]) == ["mine.py", "once", "a=1"]
    assert colon_separated("per_cluster:member=mine.py:Mine:once", ["once"])[1:] == ["member=mine.py:Mine", "once"]


def test_what_is_split_here_is_what_the_registry_reads(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from nnunet_active.strategies import ScoreStrategy\n\n\n"
        "class Mine(ScoreStrategy):\n    name = 'mine'\n\n    def utility(self, pool, rng):\n        return pool.column('x')\n"
    )
    monkeypatch.chdir(tmp_path)
    place = found_from_anywhere("mine.py:Mine")
    monkeypatch.chdir("/")
    assert get_strategy(place).name == get_strategy(split_name(place)[0]).name == "mine"
