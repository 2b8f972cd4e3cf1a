from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_process import killed_before_rename, needs_fork

from nnunet_active.campaign.splits import FILE_NAME, FoldDefinition, backups, define_fold, read_splits, write_folds
from nnunet_active.util.errors import CampaignError

CASES = [f"case_{i}" for i in range(8)]
cases = st.lists(st.sampled_from(CASES), unique=True)
folds = st.fixed_dictionaries({"train": cases, "val": cases})
split_files = st.lists(folds, min_size=1, max_size=4)
quick = settings(max_examples=25, deadline=None)


@contextmanager
def dataset(splits: list[dict] | None = None):
    with tempfile.TemporaryDirectory() as name:
        if splits is not None:
            user_writes(Path(name), splits)
        yield Path(name)


def user_writes(folder: Path, splits: list[dict], **how) -> bytes:
    (folder / FILE_NAME).write_text(json.dumps(splits, **how))
    return (folder / FILE_NAME).read_bytes()


def write_fold(folder: Path, fold: str, train: list[str], val: list[str], others: list[dict] | None = None) -> bool:
    return write_folds(folder, {int(fold): (train, val)}, others)


def now(folder: Path) -> list[dict]:
    return json.loads((folder / FILE_NAME).read_text())


def kept(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in backups(folder)]


# ---- writing ----------------------------------------------------------------------------------------------------------------


@quick
@given(split_files, st.data())
def test_other_folds_never_change_and_the_users_file_is_kept_byte_by_byte(splits, data):
    with dataset(splits) as folder:
        original = (folder / FILE_NAME).read_bytes()
        fold = data.draw(st.integers(0, len(splits)))
        for train in data.draw(st.lists(cases, min_size=1, max_size=4)):
            val = data.draw(cases)
            write_fold(folder, str(fold), train, val)
            assert [entry for i, entry in enumerate(now(folder)) if i != fold] == [
                entry for i, entry in enumerate(splits) if i != fold
            ]
            assert now(folder)[fold] == {"train": sorted(train), "val": sorted(val) or sorted(train)}
        assert original in kept(folder) or (folder / FILE_NAME).read_bytes() == original
        assert len(kept(folder)) <= 1


@quick
@given(st.lists(st.tuples(st.booleans(), split_files, cases), max_size=7))
def test_every_version_of_the_users_is_kept_before_it_is_overwritten(steps):
    with dataset() as folder:
        overwritten: list[bytes] = []
        pending: bytes | None = None  # what the user wrote last
        for by_user, splits, train in steps:
            if by_user:
                pending = user_writes(folder, splits, indent=1)
            elif write_fold(folder, "0", train, []) and pending is not None:
                overwritten.append(pending)
                pending = None
            assert set(kept(folder)) == set(overwritten) | ({b"[]\n"} & set(kept(folder)))
        for first, second in zip(kept(folder), kept(folder)[1:], strict=False):
            assert first != second


def test_nothing_is_written_where_nothing_changes(tmp_path):
    assert write_fold(tmp_path, "0", ["b", "a"], ["c"])
    before = (tmp_path / FILE_NAME).stat().st_mtime_ns
    assert not write_fold(tmp_path, "0", ["a", "b"], ["c"])
    assert (tmp_path / FILE_NAME).stat().st_mtime_ns == before
    user = user_writes(tmp_path, [{"train": ["a"], "val": ["c"]}])
    assert not write_fold(tmp_path, "0", ["a"], ["c"])
    assert (tmp_path / FILE_NAME).read_bytes() == user


def test_an_edit_between_two_of_our_writes_is_kept_and_its_other_folds_go_on(tmp_path):
    first = user_writes(tmp_path, [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}])
    write_fold(tmp_path, "0", ["a", "c"], ["b"])
    edited = now(tmp_path)
    edited[1]["train"] = ["b", "c"]
    second = user_writes(tmp_path, edited)
    write_fold(tmp_path, "0", ["a", "c", "d"], ["b"])
    write_fold(tmp_path, "0", ["a", "c", "d", "e"], ["b"])
    assert kept(tmp_path) == [first, second]
    assert now(tmp_path) == [{"train": ["a", "c", "d", "e"], "val": ["b"]}, {"train": ["b", "c"], "val": ["a"]}]


def test_a_version_is_kept_again_when_the_user_goes_back_to_it(tmp_path):
    """The newest kept file defines the folds, so an older equal one would not do."""
    a, b = [{"train": ["a"], "val": ["v"]}] * 2, [{"train": ["b"], "val": ["v"]}] * 2
    for user in (a, b, a):
        user_writes(tmp_path, user)
        write_fold(tmp_path, "0", ["x"], ["v"])
        assert define_fold(tmp_path, "1").train == tuple(user[1]["train"])
    assert [json.loads(content) for content in kept(tmp_path)] == [a, b, a]


def test_a_removed_backup_does_not_make_a_later_one_overwrite_another(tmp_path):
    for number in range(12):
        user_writes(tmp_path, [{"train": [f"user_{number}"], "val": ["v"]}])
        write_fold(tmp_path, "0", ["x"], ["v"])
        if number == 1:
            backups(tmp_path)[0].unlink()
    (tmp_path / "active" / "splits_before_nnunet_active_mine.json").write_text("not ours")
    assert [json.loads(content)[0]["train"] for content in kept(tmp_path)] == [[f"user_{i}"] for i in range(1, 12)]
    assert define_fold(tmp_path, "0").train == ("user_11",)


def test_a_hole_is_refused_and_nothing_is_written(tmp_path):
    user = user_writes(tmp_path, [{"train": ["a"], "val": ["b"]}])
    with pytest.raises(CampaignError, match=r"knows 1 fold\(s\), so fold 2 cannot be added; begin with -f 1 or -f all"):
        write_fold(tmp_path, "2", ["a"], ["b"])
    assert (tmp_path / FILE_NAME).read_bytes() == user and not (tmp_path / "active").exists()
    write_fold(tmp_path, "1", ["c"], ["b"])
    assert len(now(tmp_path)) == 2


def test_other_folds_fill_a_fresh_file_and_outlive_it(tmp_path):
    generated = [{"train": [f"t{i}"], "val": [f"v{i}"]} for i in range(5)]
    write_fold(tmp_path, "3", ["t3"], ["v3"], generated)
    write_fold(tmp_path, "1", [], ["v1"], generated)
    assert [entry["train"] for entry in now(tmp_path)] == [["t0"], [], ["t2"], ["t3"], ["t4"]]
    assert define_fold(tmp_path, "1") == FoldDefinition(("t1",), ("v1",), "splits_before_nnunet_active.json")


def test_fold_all_is_in_no_split_file(tmp_path):
    assert define_fold(tmp_path, "all", generated=[{"train": ["a"], "val": ["b"]}]) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", "[1]", '[{"train": ["a"]}]', '[{"train": "a", "val": []}]', '[{"train": [1], "val": []}]', "\xff"],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path, content):
    file = tmp_path / FILE_NAME
    file.write_bytes(content.encode("latin-1"))
    for call in (
        lambda: read_splits(file),
        lambda: write_fold(tmp_path, "0", ["a"], ["b"]),
        lambda: define_fold(tmp_path, "0"),
    ):
        with pytest.raises(CampaignError, match=f"{FILE_NAME} is not a split file"):
            call()
    assert file.read_bytes() == content.encode("latin-1") and kept(tmp_path) == []


def test_a_damaged_list_of_our_versions_is_named(tmp_path):
    write_fold(tmp_path, "0", ["a"], ["b"])
    (tmp_path / "active" / "splits_written.json").write_text("[")
    with pytest.raises(CampaignError, match=r"splits_written\.json is not a list of digests"):
        write_fold(tmp_path, "0", ["a", "c"], ["b"])
    assert now(tmp_path) == [{"train": ["a"], "val": ["b"]}]


# ---- who defines a fold -----------------------------------------------------------------------------------------------------


def test_the_first_that_knows_the_fold_defines_it(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    generated = [{"train": [f"g{i}"], "val": ["v"]} for i in range(3)]
    assert define_fold(tmp_path, "0", raw) is None
    assert define_fold(tmp_path, "0", raw, generated).origin == "nnU-Net's 5-fold cross-validation"
    raw_file = user_writes(raw, [{"train": ["r0"], "val": ["v"]}, {"train": ["r1"], "val": ["v"]}])
    user_writes(tmp_path, [{"train": ["u0"], "val": ["v"]}])
    found = [define_fold(tmp_path, str(fold), raw, generated) for fold in range(3)]
    assert [one.train for one in found] == [("u0",), ("r1",), ("g2",)]
    assert [one.origin for one in found][:2] == [FILE_NAME, f"{FILE_NAME} of the raw folder"]
    assert define_fold(tmp_path, "3", raw, generated) is None
    write_fold(tmp_path, "0", ["x"], ["v"])
    assert define_fold(tmp_path, "0", raw, generated).train == ("u0",)  # the version from before
    assert (raw / FILE_NAME).read_bytes() == raw_file


def test_what_we_wrote_never_defines_a_fold(tmp_path):
    """Also not in a file in which the user has edited another fold since."""
    whole = [{"train": ["a", "b", "c"], "val": ["v"]}, {"train": ["d"], "val": ["v"]}]
    user_writes(tmp_path, whole)
    write_fold(tmp_path, "0", ["a"], ["v"])
    edited = now(tmp_path)
    edited[1]["train"] = ["d", "e"]
    user_writes(tmp_path, edited)
    for _ in range(2):  # before and after the edited file was overwritten in its turn
        assert define_fold(tmp_path, "0").train == ("a", "b", "c")
        assert define_fold(tmp_path, "1").train == ("d", "e")
        write_fold(tmp_path, "0", ["a", "b"], ["v"])
    edited[0]["train"] = ["a", "z"]  # a fold that the user does change counts
    user_writes(tmp_path, edited)
    assert define_fold(tmp_path, "0").train == ("a", "z")


def test_the_users_first_definition_counts_also_when_it_equals_what_we_came_to_write(tmp_path):
    user_writes(tmp_path, [{"train": ["a", "b"], "val": ["v"]}])
    write_fold(tmp_path, "0", ["a"], ["v"])
    write_fold(tmp_path, "0", ["a", "b"], ["v"])
    user_writes(tmp_path, [*now(tmp_path), {"train": [], "val": []}])
    generated = [{"train": ["wrong"], "val": ["wrong"]}]
    assert define_fold(tmp_path, "0", generated=generated).train == ("a", "b")


def test_where_nobody_had_defined_a_fold_an_edit_of_ours_does_not_define_it(tmp_path):
    write_fold(tmp_path, "0", ["a"], [])
    user_writes(tmp_path, [*now(tmp_path), {"train": ["c"], "val": ["d"]}])
    assert define_fold(tmp_path, "0") is None
    assert define_fold(tmp_path, "1") == FoldDefinition(("c",), ("d",), FILE_NAME)


# ---- kills ------------------------------------------------------------------------------------------------------------------


@needs_fork
@pytest.mark.parametrize("start", ["nothing", "user", "ours", "edited"])
def test_a_kill_at_any_write_leaves_whole_files_and_the_same_call_ends_the_same(tmp_path, start):
    user = [{"train": ["a", "b", "c"], "val": ["v"]}, {"train": ["d"], "val": ["w"]}]

    def prepare(folder: Path) -> Path:
        folder.mkdir()
        if start != "nothing":
            user_writes(folder, user)
        if start in ("ours", "edited"):
            write_fold(folder, "0", ["a"], ["v"])
        if start == "edited":
            user_writes(folder, [now(folder)[0], {"train": ["e"], "val": ["w"]}])
        return folder

    def action(folder: Path) -> None:
        write_fold(folder, "0", ["a", "b"], ["v"], user)

    def content(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    action(prepare(tmp_path / "whole"))
    number = 0
    while True:
        folder = prepare(tmp_path / f"killed_{number}")
        before = content(folder)
        if not killed_before_rename(lambda folder=folder: action(folder), number):
            break
        after = content(folder)
        assert after.get(FILE_NAME) == before.get(FILE_NAME)  # it is the last one written
        assert define_fold(folder, "0", generated=user).train == ("a", "b", "c")
        action(folder)
        assert content(folder) == content(tmp_path / "whole")
        number += 1
        shutil.rmtree(folder)
    assert number == {"nothing": 3, "user": 3, "ours": 2, "edited": 3}[start]
