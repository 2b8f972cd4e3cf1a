from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from nnunet_active.util.errors import CampaignError
from nnunet_active.util.lock import hold, wait_for

HOLDER = """
import sys, time
from pathlib import Path
from nnunet_active.util.lock import hold
folder = Path(sys.argv[1])
with hold(folder):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "done").touch()
"""
WITH_WORKER = """
import multiprocessing, os, sys, time
from pathlib import Path
from nnunet_active.util.lock import hold
def work():
    print(os.getpid(), flush=True)  # by the worker itself: only then has it really begun, and closed what it inherited
    time.sleep(float(sys.argv[2]))
with hold(Path(sys.argv[1])):
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
"""


def start(code: str, folder, seconds: float) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def stop(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def taken(folder) -> bool:
    with hold(folder):
        return True


def test_a_second_process_is_told_who_holds_it_and_a_killed_holder_is_taken_over(tmp_path):
    folder = tmp_path / "fold_0"
    process, said = start(HOLDER, folder, 60)
    assert said == "held"
    try:
        with pytest.raises(CampaignError) as refused:
            taken(folder)
        assert f"process {process.pid} on {socket.gethostname()} (since 2" in str(refused.value)
        assert str(folder) in str(refused.value)
        (folder / ".lock_holder.json").write_text("{")
        with pytest.raises(CampaignError, match="in use by another process"):
            taken(folder)
    finally:
        stop(process)  # as kill -9
    assert (folder / ".lock_holder.json").is_file()  # it could not clean up
    assert taken(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_that_outlive_a_killed_holder_do_not_keep_the_lock(tmp_path):
    """nnU-Net's augmentation workers are forked, and so inherit every open file of the training."""
    process, worker = start(WITH_WORKER, tmp_path, 5)
    stop(process)
    os.kill(int(worker), 0)  # it is still there
    assert taken(tmp_path)
    os.kill(int(worker), 9)


def test_a_lock_is_free_after_the_context_also_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), hold(tmp_path):
            assert (tmp_path / ".lock_holder.json").is_file()
            _ = 1 / 0
    assert not (tmp_path / ".lock_holder.json").exists()
    start_time = time.monotonic()
    with hold(tmp_path):
        assert time.monotonic() - start_time < 5


def test_one_process_cannot_hold_it_twice(tmp_path):
    with hold(tmp_path):
        with pytest.raises(CampaignError, match=f"process {os.getpid()} "):
            taken(tmp_path)
        assert (tmp_path / ".lock_holder.json").is_file()  # the refused one did not take the holder's name away


def test_two_folders_have_two_locks(tmp_path):
    with hold(tmp_path / "fold_0"), hold(tmp_path / "fold_1"):
        assert (tmp_path / "fold_0" / ".lock_holder.json").is_file()
        assert (tmp_path / "fold_1" / ".lock_holder.json").is_file()


def test_a_lock_that_another_one_holds_is_waited_for_and_that_is_said_once(tmp_path):
    file, said, order = tmp_path / "deep" / "one.lock", [], []

    def second():
        with wait_for(file, lambda: said.append("waits")):
            order.append("second")

    with wait_for(file, lambda: said.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        while not said and thread.is_alive():
            time.sleep(0.01)
        order.append("first")
    thread.join(timeout=30)
    assert (said, order) == (["waits"], ["first", "second"])
