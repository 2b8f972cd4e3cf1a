from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_active.data.blosc_files import blosc2, open_b2nd, read_b2nd

CODE = """
import sys
import blosc2
import nnunet_active.{module}
assert "nnunet_active.data.blosc_files" in sys.modules
print(blosc2.set_nthreads(1))
"""


def test_an_array_comes_back_as_it_was_stored(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    blosc2.asarray(array, urlpath=str(tmp_path / "case.b2nd"))
    found = read_b2nd(tmp_path / "case.b2nd")
    assert found.dtype == np.int16 and np.array_equal(found, array)
    part = open_b2nd(tmp_path / "case.b2nd")[:, 1, :, 2:]
    assert np.array_equal(part, array[:, 1, :, 2:])


@settings(deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_whatever_the_chunks_and_blocks_are_the_whole_array_is_what_blosc2_itself_reads(data, shape):
    chunks = [data.draw(st.integers(1, n)) for n in shape]
    blocks = [data.draw(st.integers(1, n)) for n in chunks]
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    array[0] = 0  # chunks of zeros are not stored
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.b2nd"
        blosc2.asarray(array, urlpath=str(file), chunks=chunks, blocks=blocks)
        np.testing.assert_array_equal(read_b2nd(file), array)


def test_an_empty_array_comes_back_empty(tmp_path):
    blosc2.asarray(np.empty((1, 0, 3), np.float32), urlpath=str(tmp_path / "case.b2nd"))
    assert read_b2nd(tmp_path / "case.b2nd").shape == (1, 0, 3)


def test_other_threads_go_on_while_an_array_is_read(tmp_path):
    """Counted, not timed: while blosc2 reads a slice of its own, nobody counts at all."""
    file, counted, ended = tmp_path / "case.b2nd", [0], threading.Event()
    blosc2.asarray(np.random.default_rng(0).standard_normal((4, 128, 128, 128), dtype=np.float32), urlpath=str(file))
    before = []

    def count() -> None:
        while not ended.wait(1e-4):
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        for read in (lambda: open_b2nd(file)[:], lambda: read_b2nd(file)):
            begin = counted[0]
            read()
            before.append(counted[0] - begin)
    finally:
        ended.set()
        counter.join()
    assert before[1] > 3 * (before[0] + 1), before


def test_a_training_works_with_one_thread_before_it_forks_its_loaders():
    module = "training.query_mixin"
    many = {**os.environ, "BLOSC_NTHREADS": "2"}
    command = [sys.executable, "-c", CODE.format(module=module)]
    process = subprocess.run(command, capture_output=True, text=True, env=many)
    assert process.stdout.split()[-1:] == ["1"], process.stderr  # set_nthreads answers how many there were before
