"""A command that only looks and says something answers at once: what takes long to import stays out, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import tiny_handoff
from tiny_rounds import request, start, trained

from nnunet_active.cli.main import COMMANDS

FOR_NETWORKS = ("torch", "nnunetv2", "sklearn", "skimage", "matplotlib")
FOR_ANY_IMAGE = (*FOR_NETWORKS, "scipy", "SimpleITK", "nibabel", "blosc2", "batchgenerators")
EVERYTHING = (*FOR_ANY_IMAGE, "pandas")
CODE = """
import json, sys
from nnunet_active.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print("LOADED", json.dumps([code, sorted(sys.modules)]))
"""


def loaded_by(*command: str) -> tuple[set[str], str]:
    """The modules that a command leaves loaded, and what it said."""
    process = subprocess.run([sys.executable, "-c", CODE, *command], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    said, _, modules = process.stdout.rpartition("LOADED")
    code, names = json.loads(modules)
    assert code == 0, process.stderr
    return set(names), said


@pytest.mark.parametrize(
    "command", ["--help", "--version", *(f"{name} --help" for name in COMMANDS), "strategies", "strategies --json"]
)
def test_flags_and_lists_are_shown_without_what_works_on_scans(command):
    assert loaded_by(*command.split())[0].isdisjoint(EVERYTHING)


@pytest.mark.parametrize("command", ["next -d 902", "next -d 902 -c 3d_fullres --json"])
def test_before_a_campaign_next_says_what_to_type_without_them(target, command):
    loaded, said = loaded_by(*command.split())
    assert loaded.isdisjoint(EVERYTHING) and "nnunet_active select -d 902" in said


@pytest.mark.parametrize("command", ["next", "status"])
def test_where_a_campaign_stands_is_said_without_them(target, command):
    start()
    assert loaded_by(command, "-d", "902")[0].isdisjoint(EVERYTHING)


def test_what_a_finished_training_knows_is_read_without_them(target):
    campaign = start(budget=1, query_size=1)
    request(campaign, "case_1")
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    trained(target, labelled=["case_0", "case_1"])
    loaded, said = loaded_by("next", "-d", "902")
    assert loaded.isdisjoint(EVERYTHING) and "with nnUNetTrainerActive knows all 2 labels" in said
    loaded, said = loaded_by("status", "-d", "902")
    assert loaded.isdisjoint(FOR_ANY_IMAGE) and "case_1" in said  # the scores are a table, for pandas


def test_why_a_case_was_chosen_is_said_without_what_networks_need(target):
    request(start(), "case_1")
    loaded, said = loaded_by("explain", "case_1", "-d", "902")
    assert loaded.isdisjoint(FOR_ANY_IMAGE) and said.startswith("case_1 was asked for")


@pytest.mark.parametrize("command", ["next", "status"])
def test_while_labels_are_awaited_only_what_reads_images_is_loaded(target, command):
    campaign = start()
    request(campaign, "case_1")
    tiny_handoff.hand_out(target, campaign, target.root / "handoff")
    loaded, said = loaded_by(command, "-d", "902")
    assert loaded.isdisjoint({"torch"}) and "case_1" in said


def test_python_runs_the_package_as_the_command(nnunet_folders):
    command = [sys.executable, "-m", "nnunet_active", "status", "-d", "204"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert process.returncode == 2 and process.stderr.startswith("nnunet_active status: No folder Dataset204_*")
