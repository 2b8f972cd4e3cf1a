from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from nnunet_active.nnunet.plain_pickle import read_properties


class Payload:
    def __init__(self, place) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_what_nnunet_notes_of_a_case_comes_back(tmp_path):
    properties = {
        "spacing": [1.0, np.float64(0.5), np.float32(2)],
        "sitk_stuff": {"origin": (0.0, 1.0), "direction": tuple(np.eye(3).ravel())},
        "class_locations": {1: np.arange(12).reshape(3, 4), (1, 2): np.asfortranarray(np.ones((2, 2)))},
        "shape": OrderedDict(a=(1, np.int64(2))),
        "text": "Ödem",
    }
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        file = tmp_path / "case.pkl"
        file.write_bytes(pickle.dumps(properties, protocol))
        found = read_properties(file)
        assert found["spacing"] == properties["spacing"] and found["sitk_stuff"] == properties["sitk_stuff"]
        assert all(np.array_equal(found["class_locations"][k], v) for k, v in properties["class_locations"].items())
        assert (found["shape"], found["text"]) == (properties["shape"], "Ödem")


def test_code_in_it_is_refused_and_never_run(tmp_path):
    file, trace = tmp_path / "case.pkl", tmp_path / "ran"
    file.write_bytes(pickle.dumps({"spacing": Payload(trace)}))
    with pytest.raises(ValueError, match=r"case\.pkl cannot be read \(it holds \w+\.mkdir"):
        read_properties(file)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x05}.", b"nonsense", pickle.dumps([1]), b"\x80\x05K\x01."])
def test_a_damaged_file_is_named(tmp_path, content):
    file = tmp_path / "case.pkl"
    file.write_bytes(content)
    if content == b"\x80\x05}.":
        assert read_properties(file) == {}
    else:
        with pytest.raises(ValueError, match=r"case\.pkl"):
            read_properties(file)
