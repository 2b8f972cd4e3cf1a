"""Strategies by name, from entry points and from Python files."""

from __future__ import annotations

import pickle
import textwrap

import numpy as np
import pytest
from strategy_pools import make_pool

from nnunet_active.strategies import ENTRY_POINT_GROUP, QueryStrategy, available_strategies, get_strategy
from nnunet_active.util.errors import ActiveError, MissingInput

PAPERS = (
    "random foreground_random entropy margin least_confidence bald cup stdr lamda mhpl aada clue badge coreset typiclust "
    "ugtst strata clasp_pe mmacts assft weighted_sum rank_aggregation per_cluster"
)
SOURCE = '''
    from nnunet_active.strategies import ScoreStrategy

    class {name}(ScoreStrategy):
        """Smallest first."""

        name = "{label}"
        columns = ("foreground_voxels",)

        def __init__(self, sign=-1.0):
            self.sign = sign

        def utility(self, pool, rng):
            return self.sign * pool.column("foreground_voxels")
'''


def write(path, name="Smallest", label="smallest"):
    path.write_text(textwrap.dedent(SOURCE.format(name=name, label=label)))
    return path


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """A distribution on the path that announces strategies, as an installed package does."""

    def install(entry_points: dict[str, str]):
        folder = tmp_path / "thirdparty-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entry_points.items())
        (folder / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{lines}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


def test_all_strategies_of_the_papers_are_there():
    assert set(PAPERS.split()) <= set(available_strategies())


def test_names_are_sorted_and_are_the_classes_own():
    found = available_strategies()
    assert list(found) == sorted(found)
    assert all(cls.name == name for name, cls in found.items())


def test_every_strategy_can_be_made_by_its_name_and_pickled():
    for name in available_strategies():
        strategy = get_strategy(name)
        assert isinstance(strategy, QueryStrategy)
        assert type(pickle.loads(pickle.dumps(strategy))) is type(strategy)


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ActiveError, match=r"no strategy 'entrpy'.*aada.*entropy.*ugtst"):
        get_strategy("entrpy")


def test_an_unknown_option_lists_the_options():
    with pytest.raises(ActiveError, match="no option lamda; its options are: lambda_"):
        get_strategy("assft", lamda=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("assft", {"gap": "anchors"}),
        ("cup", {"factor": 0.5}),
        ("clasp_pe", {"stratified": 2}),
        ("weighted_sum", {"members": {}}),
        ("weighted_sum", {"members": ["entropy"], "weights": [1, 2]}),
        ("per_cluster", {"member": "entrpy"}),
    ],
)
def test_a_wrong_option_is_one_clear_error(name, options):
    with pytest.raises(ActiveError):
        get_strategy(name, **options)


def test_a_strategy_in_a_file_works_with_its_options(tmp_path):
    path = write(tmp_path / "mine.py")
    pool = make_pool()
    smallest = get_strategy(f"{path}:Smallest").query(pool, 1, np.random.default_rng(0)).picks[0]
    largest = get_strategy(f"{path}:Smallest", sign=1.0).query(pool, 1, np.random.default_rng(0)).picks[0]
    assert pool.scores.loc[smallest, "foreground_voxels"] == pool.scores["foreground_voxels"].min()
    assert pool.scores.loc[largest, "foreground_voxels"] == pool.scores["foreground_voxels"].max()


def test_a_file_in_the_current_folder_needs_no_class_where_it_has_one(tmp_path, monkeypatch):
    write(tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    assert get_strategy("mine.py").name == "smallest"


def test_two_files_of_one_name_do_not_mix(tmp_path):
    paths = []
    for label in ("one", "two"):
        (tmp_path / label).mkdir()
        paths.append(write(tmp_path / label / "mine.py", label=label))
    assert [get_strategy(f"{path}:Smallest").name for path in paths] == ["one", "two"]


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    with pytest.raises(MissingInput, match=r"no strategy file"):
        get_strategy(f"{tmp_path / 'absent.py'}:A")
    path = write(tmp_path / "mine.py")
    with pytest.raises(ActiveError, match=r"no query strategy 'Other'; strategies in it: Smallest\."):
        get_strategy(f"{path}:Other")
    (tmp_path / "broken.py").write_text("import does_not_exist")
    with pytest.raises(ActiveError, match="fails: ModuleNotFoundError"):
        get_strategy(f"{tmp_path / 'broken.py'}:A")


def test_another_package_adds_a_strategy_by_an_entry_point(tmp_path, plug_in):
    write(tmp_path / "thirdparty_a.py")
    plug_in({"smallest": "thirdparty_a:Smallest"})
    assert get_strategy("smallest").name == "smallest"
    assert "smallest" in available_strategies()


def test_a_broken_entry_point_leaves_the_others_alone(tmp_path, plug_in):
    write(tmp_path / "thirdparty_b.py")
    plug_in({"smallest": "thirdparty_b:Smallest", "bad": "not_there:Thing", "odd": "pathlib:Path"})
    with pytest.warns(UserWarning) as warned:
        found = available_strategies()
    assert sorted(str(w.message).split("'")[1] for w in warned) == ["bad", "odd"]
    assert "smallest" in found and "bad" not in found and "odd" not in found
    with pytest.raises(ActiveError, match=r"'bad'.*cannot be loaded"):
        get_strategy("bad")
    assert get_strategy("smallest").name == "smallest"


def test_another_package_cannot_take_a_name_of_ours(tmp_path, plug_in):
    write(tmp_path / "thirdparty_c.py", label="entropy")
    plug_in({"entropy": "thirdparty_c:Smallest"})
    with pytest.warns(UserWarning, match="already taken"):
        assert available_strategies()["entropy"].__module__ == "nnunet_active.strategies.entropy"
    assert get_strategy("entropy").__module__ == "nnunet_active.strategies.entropy"


@pytest.mark.parametrize("line", ["import sys; sys.exit(3)", "raise KeyError('x')", "1 / 0", "import no_such_module"])
def test_a_file_that_ends_the_program_or_raises_is_an_error_of_that_file(tmp_path, line):
    file = tmp_path / "mine.py"
    file.write_text(line)
    with pytest.raises(ActiveError, match=r"The strategy file .*mine\.py fails: "):
        get_strategy(f"{file}:Mine")


def test_a_constructor_that_raises_is_an_error_of_that_strategy(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import sys\nfrom nnunet_active.strategies.base import ScoreStrategy\n\n\n"
        "class Mine(ScoreStrategy):\n    name = 'mine'\n    needs = frozenset()\n\n"
        "    def __init__(self, how=None):\n        sys.exit(how)\n\n"
        "    def utility(self, pool, rng):\n        return 1 / 0\n"
    )
    with pytest.raises(ActiveError, match=r"Mine' fails: SystemExit: 3 \(mine\.py, line 10\); correct it"):
        get_strategy(f"{file}:Mine", how=3)


@pytest.mark.parametrize(
    ("name", "option"), [("cup", "factor"), ("aada", "samples"), ("lamda", "gamma"), ("assft", "gap")]
)
def test_an_option_of_the_wrong_type_is_named(name, option):
    with pytest.raises(
        ActiveError, match=rf"'{name}' cannot be used with the option {option}: \['abc'\] - input should"
    ):
        get_strategy(name, **{option: ["abc"]})
