from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

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


def test_a_training_works_with_one_thread_before_it_forks_its_loaders():
    module = "training.query_mixin"
    many = {**os.environ, "BLOSC_NTHREADS": "2"}
    command = [sys.executable, "-c", CODE.format(module=module)]
    process = subprocess.run(command, capture_output=True, text=True, env=many)
    assert process.stdout.split()[-1:] == ["1"], process.stderr  # set_nthreads answers how many there were before
