"""``nnunet_active strategies``."""

from __future__ import annotations

import argparse
import json

from nnunet_active.cli import strategies as command
from nnunet_active.strategies import available_strategies


def run(capsys, *flags: str) -> str:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(flags)) == 0
    return capsys.readouterr().out


def test_the_list_shows_every_strategy_with_needs_cost_and_paper(capsys):
    out = run(capsys)
    for name, cls in available_strategies().items():
        assert f"\n{name} " in f"\n{out}"
        assert cls.cost in " ".join(out.split()) and cls.paper in " ".join(out.split())
    assert all(len(line) <= 120 for line in out.splitlines())


def test_json_can_be_read_by_a_script(capsys):
    rows = {row["name"]: row for row in json.loads(run(capsys, "--json"))}
    assert set(rows) == set(available_strategies())
    assert rows["mmacts"]["needs"] == ["density", "predictions"]
    assert rows["assft"]["options"]["lambda_"] == 1.0
    assert all(len(row["summary"]) > 10 and row["summary"].endswith((".", ":")) for row in rows.values())
