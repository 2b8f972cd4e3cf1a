"""Commands that are killed at any of their writes and given again: the same end, and nothing left over."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tiny_handoff
from killed_process import killed_after, killed_before_rename, needs_fork, seconds_of
from tiny_rounds import copy_of, make_once
from tiny_target import Target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.cli.main import main
from nnunet_active.util.errors import ActiveError

SELECT = ["select", "-d", "902", "-c", "3d_fullres", "-np", "1", "-device", "cpu", "-n", "1", "--strategy", "random"]
COMMANDS = {"select": SELECT, "more": [*SELECT, "--more"], "ingest": ["ingest", "-d", "902"]}
FEW = (0, 2, 5, 9)

pytestmark = needs_fork


def run(command: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(command) == 0


def use(target: Target, patch: pytest.MonkeyPatch) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        patch.setenv(variable, str(target.root / variable))


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def prepared(request, tmp_path_factory) -> tuple[Target, list[str], dict]:
    """A target, a command, and what the command makes of it if nobody kills it."""
    with pytest.MonkeyPatch.context() as patch:
        target = make_once(tmp_path_factory.mktemp("made"))
        use(target, patch)
        if request.param != "select":
            run(SELECT)
        if request.param == "ingest":
            (waiting,) = Campaign.open(target.preprocessed, 0).waiting()
            tiny_handoff.edit(target.raw / "annotate" / "fold_0_round_001", waiting)
        command = COMMANDS[request.param]
        whole = again(target, tmp_path_factory.mktemp("whole"), patch)
        run(command)
        return target, command, end_of(whole)


def again(target: Target, root: Path, patch: pytest.MonkeyPatch) -> Target:
    """A copy; the campaign knows where its hand-off folder is now."""
    copied = copy_of(target, root)
    for file in (root / "nnUNet_preprocessed").rglob("campaign.json"):
        file.write_text(file.read_text().replace(str(target.root), str(root)))
    use(copied, patch)
    return copied


def end_of(target: Target) -> dict:
    """Everything but times; places relative to the target's."""
    campaign = Campaign.open(target.preprocessed, 0)
    content = campaign.to_json()
    content.pop("begun")
    for facts in content.get("ingested", {}).values():
        facts.pop("time"), facts.pop("files")
    selections = [{**one.selection(), "seconds": 0} for one in campaign.rounds]
    files = sorted(str(file.relative_to(target.root)) for file in target.root.rglob("*") if ".lock" not in file.name)
    splits = target.preprocessed / "splits_final.json"
    text = json.dumps([content, selections, splits.read_text() if splits.is_file() else "", files])
    return json.loads(text.replace(str(target.root), ""))


def kill_and_repeat(prepared, kill: Callable[[Callable], bool], root: Path, patch: pytest.MonkeyPatch) -> bool:
    """False: the command ended before it was killed."""
    target, command, whole = prepared
    copied = again(target, root, patch)
    killed = kill(lambda: run(command))
    if killed and not has_ended(copied, whole):  # it may have been killed when all was done
        run(command)
    assert end_of(copied) == whole
    assert not [path for path in root.rglob(".*.tmp")]
    return killed


def has_ended(target: Target, whole: dict) -> bool:
    try:
        return end_of(target) == whole
    except ActiveError:
        return False


@pytest.mark.parametrize("number", FEW)
def test_a_killed_command_given_again_comes_to_the_same_end_and_leaves_nothing_over(
    prepared, number, tmp_path, monkeypatch
):
    kill_and_repeat(prepared, partial(killed_before_rename, number=number), tmp_path, monkeypatch)


@pytest.mark.long
def test_a_command_killed_at_every_one_of_its_writes_comes_to_the_same_end(prepared, tmp_path, monkeypatch):
    kills = 0
    while kill_and_repeat(prepared, partial(killed_before_rename, number=kills), tmp_path / str(kills), monkeypatch):
        kills += 1
    print(f"{kills} kills")
    assert kills > 3


@pytest.mark.long
def test_a_command_killed_at_any_moment_comes_to_the_same_end(prepared, tmp_path, monkeypatch):
    rng, kills, number = random.Random(5), 0, 0
    again(prepared[0], tmp_path / "timed", monkeypatch)
    span = seconds_of(lambda: run(prepared[1]))
    while kills < 34:  # of each of three commands
        moment = rng.uniform(0, span)
        kills += kill_and_repeat(prepared, partial(killed_after, seconds=moment), tmp_path / str(number), monkeypatch)
        number += 1
