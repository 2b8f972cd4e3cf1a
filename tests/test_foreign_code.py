"""No path of the package runs code from a file that nobody said he trusts."""

from __future__ import annotations

import ast

import pytest
from test_house import TREES

ALLOWED = {
    "nnunet/safe_checkpoint:_load_trusted": "after --trust-checkpoint",
    "training/checkpoints:restamp": "of a file that this very process wrote a moment ago",
    "util/ranks:_packed": "of its own pickle",
    "util/ranks:_unpacked": "of the processes of this very training, whose messages PyTorch unpickles as well",
    "util/crew:_collect": "of the processes of this very command, through their store",
    "util/crew:_help_with": "of the processes of this very command, through their store",
    "doctor/doctor_probe:probe_trainer": "of its own pickle",
    "nnunet/plain_pickle:read_properties": "makes numbers, texts and arrays only",
    "nnunet/checkpoint_record:_without_weights": "makes numbers, texts and arrays only, and nothing of PyTorch",
    "strategies/registry:_load_file": "the user names the file",
}
READERS = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "load_pickle",
    "read_pickle",
    "joblib.load",
    "marshal.loads",
    "shelve.open",
    "yaml.load",
    "torch.load",
    "np.load",
    "numpy.load",
    "PlainUnpickler",
    "_WithoutTensors",
    "eval",
    "exec",
    "exec_module",
}


def unsafe_calls(tree: ast.AST):
    """Every call that can run code from a file, with the function that it stands in."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            known = called in READERS or called.rpartition(".")[2] in READERS - {"eval", "exec"}  # network.eval()
            if not known:
                continue
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            safe = {
                "torch.load": given.get("weights_only") == "True",
                "np.load": given.get("allow_pickle", "False") == "False",
            }
            if not safe.get(called, False):
                yield f"{function.name}", called


def test_every_place_that_could_run_code_from_a_file_is_known_and_has_a_reason():
    found = {f"{name}:{function}" for name, tree in TREES.items() for function, _ in unsafe_calls(tree)}
    assert found <= set(ALLOWED), found - set(ALLOWED)
    assert set(ALLOWED) <= found, "what is gone needs no reason"


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "pickle.loads(data)",
        "load_pickle(file)",
        "pd.read_pickle(file)",
    ],
)
def test_the_search_finds_what_it_looks_for(code):
    assert list(unsafe_calls(ast.parse(f"def read(file):\n    return {code}")))


def test_the_search_leaves_safe_readers_alone():
    code = "def read(file):\n    return torch.load(file, weights_only=True), np.load(file), json.loads(file)"
    assert not list(unsafe_calls(ast.parse(code)))
