from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_window import Case, image

from nnunet_active.nnunet import memory
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.memory import free_memory, require_memory, room_for_logits
from nnunet_active.util.errors import BadCase


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="only Linux tells")
def test_the_room_on_a_cpu_is_a_part_of_the_memory_that_is_free():
    room = room_for_logits(torch.device("cpu"))
    total = 1024 * int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert isinstance(room, int) and 0 < room <= total / 2


def test_where_nobody_tells_there_is_no_limit(monkeypatch):
    def gone(self, *_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", gone)
    assert room_for_logits(torch.device("cpu")) is None
    require_memory(10**15)


def test_whole_logits_that_do_not_fit_are_refused_before_the_system_ends_the_process(monkeypatch):
    members = [Case(seed=seed).window for seed in range(2)]
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * 3 * image()[0].size - 1)
    for window in (members[0], EnsembleWindow(members)):
        with pytest.raises(BadCase, match="its logits of all classes need"):
            window.logits(image())
        window.score(image(), 1.0)
        window.predicted_classes(image())
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * 3 * image()[0].size)
    members[0].logits(image())


def test_several_processes_of_one_command_share_the_room(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 800)
    alone = room_for_logits(torch.device("cpu"))
    monkeypatch.setattr(memory, "processes_on_machine", lambda: 4)
    assert (alone, room_for_logits(torch.device("cpu"))) == (400, 100)


@pytest.mark.skipif(not Path("/proc/self/cgroup").is_file(), reason="only Linux has control groups")
@pytest.mark.parametrize("version", [0, 1])
def test_a_container_or_a_job_that_may_have_less_than_the_machine_has_less(version, tmp_path, monkeypatch):
    """Half a gigabyte for all jobs of a user, of which files that were read take a part that can be given back."""
    controller, _, limit, used, (inactive, _) = memory._GROUPS[version]
    monkeypatch.setattr(memory, "_GROUPS", ((controller, tmp_path, limit, used, (inactive,)),))
    real = Path.read_text
    groups = f"4:{controller}:/jobs/7" if controller else "0::/jobs/7"
    monkeypatch.setattr(
        Path, "read_text", lambda self, *how: groups if str(self) == "/proc/self/cgroup" else real(self, *how)
    )
    machine = free_memory(torch.device("cpu"))
    for folder, most in ((tmp_path / "jobs" / "7", "max" if version == 0 else str(2**60)), (tmp_path / "jobs", "500")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(most)
        (folder / used).write_text("450\n")
        (folder / "memory.stat").write_text(f"anon 30\n{inactive} 100\n")
    assert free_memory(torch.device("cpu")) == 150 < machine
