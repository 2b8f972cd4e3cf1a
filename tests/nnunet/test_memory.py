from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnunet_active.nnunet.memory import room_for_logits


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
