"""The source's label maps: predicted once, read afterwards, made again where the file is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_active.benchmark.source_predictions import SourcePredictions

MAPS = {"a": np.array([[[0, 3]]], np.uint8), "b": np.full((2, 3, 4), 300, np.uint16)}


def test_the_source_predicts_once_whichever_run_comes_first(tmp_path: Path):
    asked = []

    def predict():
        asked.append(1)
        yield from reversed(MAPS.items())

    file = tmp_path / "evaluations" / "maps.npz"
    for _ in range(2):
        source = SourcePredictions(file, MAPS, predict)
        for case in ("b", "a", "b"):
            assert source.of(case).tolist() == MAPS[case].tolist()
    assert len(asked) == 1


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_file_is_made_again(tmp_path: Path, content: bytes | None):
    file = tmp_path / "maps.npz"
    SourcePredictions(file, MAPS, MAPS.items).of("a")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert SourcePredictions(file, MAPS, MAPS.items).of("b").tolist() == MAPS["b"].tolist()
    assert file.read_bytes() == whole
