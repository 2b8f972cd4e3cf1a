"""``nnunet_active select`` by two real processes that meet as torchrun's do, and by parts that never meet."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from tiny_rounds import copy_of
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.query.pool_scoring import ScoringWork
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.log import silent

COMMAND = ["select", "-d", "902", "-c", "3d_fullres", "-n", "2", "--strategy", "mmacts", "-np", "1", "-device", "cpu"]
QUICK = "import sys; from nnunet_active.util import crew; crew.PULSE = 0.2\n"
SOON_DEAD = "crew.DEAD_AFTER = 3.0\n"  # only where one dies: on a busy machine the living are silent for as long
MAIN = "from nnunet_active.cli.main import main; sys.exit(main(sys.argv[1:]))\n"
NOTING = """
import os, pathlib
from nnunet_active.query.pool_scoring import ScoringWork as W
def begin(self, case, loaded, real=W.begin):
    note = pathlib.Path(os.environ["NOTES"])
    (note / f"{case}_by_{os.environ['RANK']}").touch()
    while os.environ["RANK"] == "0" and not list(note.glob("*_by_1")) and os.environ.get("WAIT"):
        pass  # until the other process has its first case
    if os.environ["RANK"] == "1" and os.environ.get("DIES"):
        os.kill(os.getpid(), 9)
    return real(self, case, loaded)
W.begin = begin
"""


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def together(root, code: str, *flags: str, **environment: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of two processes; the first keeps the store, as where there is no torchrun."""
    port = free_port()
    notes = root / "notes"
    notes.mkdir(exist_ok=True)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "NOTES": str(notes), **environment}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *COMMAND, *flags],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [(one.wait(200), *one.communicate()) for one in processes]
    finally:
        for one in processes:
            one.kill()


def scores(target):
    return Campaign.open(target.preprocessed, 0).rounds[-1].scores()


@pytest.fixture(scope="module")
def by_one(made, tmp_path_factory):
    """What one process asks for and computes."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("one")
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            patch.setenv(variable, str(root / variable))
        target = copy_of(made, root)
        options = SelectOptions(NAME, configuration="3d_fullres", n=2, strategy="mmacts", processes=1)
        requested = select(options, log=silent).query.requested
        return list(requested), scores(target)


def test_two_processes_share_the_cases_and_only_the_first_writes_and_speaks(target, by_one):
    first, second = together(target.root, QUICK + NOTING + MAIN, "--json", WAIT="1")
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert second[1] == second[2] == ""
    assert json.loads(first[1])["requested"] == by_one[0] and scores(target).equals(by_one[1])
    by = sorted(file.name for file in (target.root / "notes").iterdir())
    assert [name.split("_by_")[0] for name in by] == [f"case_{i}" for i in range(1, 6)]
    assert {name[-1] for name in by} == {"0", "1"}


def test_a_process_that_is_killed_costs_its_case_and_a_rerun_makes_no_pass(target, by_one, monkeypatch):
    first, second = together(target.root, QUICK + SOON_DEAD + NOTING + MAIN, "--dry-run", "--json", WAIT="1", DIES="1")
    assert (first[0], second[0]) == (0, -9), first[2]
    assert json.loads(first[1])["requested"] == by_one[0]
    assert first[2].count("is gone; it is done again") == 1

    def begin(self, case, loaded):
        raise AssertionError(f"{case} was known")

    monkeypatch.setattr(ScoringWork, "begin", begin)
    options = SelectOptions(NAME, configuration="3d_fullres", n=2, strategy="mmacts", processes=1)
    assert list(select(options, log=silent).query.requested) == by_one[0] and scores(target).equals(by_one[1])


def test_a_users_mistake_is_said_once_and_ends_all_with_its_code(target):
    first, second = together(target.root, QUICK + MAIN, "--must-include", "nobody")
    assert first[0] == second[0] == 2 and second[1] == second[2] == ""
    assert first[2].count("\n") == 1 and "has no case nobody" in first[2]


def test_torchrun_starts_it_as_a_module(target, by_one):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    command = [*launcher, "-m", "nnunet_active", *COMMAND, "--json"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["requested"] == by_one[0] and scores(target).equals(by_one[1])
