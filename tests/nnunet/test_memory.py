from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_window import Case, image

from nnunet_active.nnunet import memory
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.memory import require_memory, room_for_logits
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
