"""Every state file of a campaign, damaged in every structural way, and every command: a sentence, never a traceback, and an exit code
of 2 only where nothing was changed.
"""

from __future__ import annotations

import contextlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_handoff
import tiny_rounds
from damaged_files import Snapshot, damage, kinds_for
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tiny_target import NAME, PLANS, Target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.cli.main import main

SELECT = ("select", "-d", "902", "-c", "3d_fullres", "-np", "1", "-device", "cpu")
CHEAP = (
    ("status", "-d", "902"),
    ("status", "-d", "902", "--json"),
    ("next", "-d", "902"),
    ("next", "-d", "902", "--json"),
    ("explain", "-d", "902", "case_1"),
    ("explain", "-d", "902", "case_4"),
    ("report", "-d", "902", "--no-images"),
    ("ingest", "-d", "902"),
    ("ingest", "-d", "902", "--decline", "{waiting}"),
    ("annotate", "-d", "902", "-np", "1", "-device", "cpu"),
    ("init", "-d", "902", "-c", "3d_fullres"),
)
DEAR = (
    (*SELECT, "-n", "1"),
    (*SELECT, "-n", "1", "--more"),
    (*SELECT, "-n", "1", "--more", "--dry-run"),
    (*SELECT, "-n", "1", "--in-training"),
    ("report", "-d", "902"),
    ("preprocess", "-d", "902", "-c", "3d_fullres", "-np", "1"),
    ("pseudo", "-d", "902", "-device", "cpu"),
    ("init", "-d", "902", "-c", "3d_fullres", "--restart"),
    ("export", "-d", "902", "-c", "3d_fullres", "-tr", "nnUNetTrainerActive", "-o", "{root}/exported"),
    ("ingest", "-d", "902", "--accept-unchanged", "{waiting}"),
)


@dataclass
class Ready:
    """A campaign in the middle of its life."""

    target: Target
    waiting: str
    files: list[Path]
    snapshot: Snapshot

    def run(self, command: tuple[str, ...]) -> tuple[int, str]:
        """Exit code, and what was said on standard error."""
        said = io.StringIO()
        named = {"waiting": self.waiting, "root": str(self.target.root)}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            try:
                code = main([part.format(**named) for part in command])
            except SystemExit as end:  # argparse
                code = end.code
        return code, said.getvalue()


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Ready:
    """One label came back, one case waits, a training has ended, and all caches are filled."""
    with pytest.MonkeyPatch.context() as patch, memory_of(8):
        root = tmp_path_factory.mktemp("ready")
        target = tiny_rounds.make_once(root)
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, str(root / variable))
        assert _quietly([*SELECT, "-n", "2", "--strategy", "mmacts", "-m", str(target.model)]) == 0
        first, waiting = Campaign.open(target.preprocessed, 0).waiting()
        tiny_handoff.edit(target.raw / "annotate" / "fold_0_round_001", first)
        assert _quietly(["ingest", "-d", "902"]) == 0
        tiny_rounds.trained(target, labelled=["case_0", first])
        assert _quietly(["report", "-d", "902"]) == 0
        wanted = [
            *target.preprocessed.rglob("*"),
            *(target.raw / "annotate").rglob("*.json"),
            target.raw / "dataset.json",
            *(target.results / NAME).rglob("*"),
        ]
        files = [file for file in wanted if file.is_file() and not file.is_symlink() and ".lock" not in file.name]
        assert target.preprocessed / f"{PLANS}.json" in files
        texts = [file for file in files if file.suffix in (".json", ".csv")]  # there is more in them to damage
        yield Ready(target, waiting, sorted([*files, *texts, *texts, *texts]), Snapshot(root))


@contextlib.contextmanager
def memory_of(gigabytes: int):
    """More ends in an error, instead of in the end of other programs."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes * 2**30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _quietly(command: list[str]) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return main(command)


def try_one(ready: Ready, where: int, what: int, how: int, command: tuple[str, ...]) -> None:
    file = ready.files[where % len(ready.files)]
    kinds = kinds_for(file)
    kind = kinds[what % len(kinds)]
    try:
        damage(file, kind, random.Random(how))
        code, said = ready.run(command)
        which = (
            f"{file.relative_to(ready.target.root)} ({kind}, {how}), {' '.join(command)}: code {code}\n{said[-1500:]}"
        )
        assert code in (0, 1, 2), which
        assert "Traceback" not in said and "did not foresee" not in said and "not enough memory" not in said, which
        if code == 2:
            assert ready.snapshot.changes(but=file) == [], which
            assert len(said.strip()) > 20, which
    finally:
        ready.snapshot.restore()


NUMBERS = st.integers(0, 10**6)
SEEDED = {
    "phases": [Phase.generate],
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}


def test_the_undamaged_campaign_is_understood_by_every_command(ready):
    for command in (*CHEAP, *DEAR):
        code, said = ready.run(command)
        ready.snapshot.restore()
        expected = (2,) if command[0] == "init" and "--restart" not in command else (0, 1)
        assert code in expected and "Traceback" not in said, f"{command}: {code} {said[-1000:]}"


@hypothesis_settings(max_examples=300, **SEEDED)
@given(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(CHEAP))
def test_a_damaged_file_never_ends_in_a_traceback_or_half_a_change(ready, where, what, how, command):
    try_one(ready, where, what, how, command)


@hypothesis_settings(max_examples=15, **SEEDED)
@given(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(DEAR))
def test_nor_do_the_commands_that_run_a_network(ready, where, what, how, command):
    try_one(ready, where, what, how, command)


@pytest.mark.long
@hypothesis_settings(max_examples=2200, **SEEDED)
@given(NUMBERS, NUMBERS, NUMBERS, st.sampled_from((*CHEAP * 3, *DEAR)))
def test_two_thousand_damaged_files(ready, where, what, how, command):
    try_one(ready, where, what, how, command)


def test_the_search_finds_what_it_looks_for(ready):
    """A command that writes and then refuses, as ``ingest`` once did, is found."""
    file = ready.files[0]
    (ready.target.raw / "labelsTr" / "moved.nii.gz").write_bytes(b"x")
    assert ready.snapshot.changes(but=file) == ["nnUNet_raw/Dataset902_TinyTarget/labelsTr/moved.nii.gz"]
    ready.snapshot.restore()
    assert ready.snapshot.changes(but=file) == []
