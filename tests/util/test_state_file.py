from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.state_file import read_remade_json, read_state


@dataclass
class Inner:
    numbers: list[int] = field(default_factory=list)


@dataclass
class Outer:
    name: str
    share: float = 0.5
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.share > 1:
            raise CampaignError(f"share {self.share} is more than the whole.")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state.json"


def test_what_was_written_is_read_into_the_dataclass(file):
    file.write_text(json.dumps({"name": "a", "share": 1, "inner": {"numbers": [1, 2]}, "of a later version": None}))
    assert read_state(file, Outer, "a state file") == Outer("a", 1.0, Inner([1, 2]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF"),
        (b'{"name": "a"', "EOF"),
        (b"\xff\xfe\x00", "invalid JSON"),
        (b"[" * 100_000, "recursion"),
        (b"null", "None - input should be"),
        (b"{}", "name: field required"),
        (b'{"name": 1}', "name: 1 - input should be a valid string"),
        (b'{"name": "a", "share": "0.5"}', "share: '0.5' - input should be a valid number"),
        (
            b'{"name": "a", "inner": {"numbers": [1, true]}}',
            r"inner\.numbers\.1: True - input should be a valid integer",
        ),
        (b'{"name": "a", "inner": {"numbers": [1.5]}}', r"inner\.numbers\.0: 1\.5"),
        (b'{"name": "a", "share": 2}', r"share 2\.0 is more than the whole\)"),
    ],
)
def test_the_sentence_says_which_file_what_was_found_and_what_to_do(file, content, reason):
    file.write_bytes(content)
    with pytest.raises(CampaignError, match=rf"state\.json is not a state file \(.*{reason}.*restore it") as error:
        read_state(file, Outer, "a state file")
    assert len(str(error.value)) < 400 + len(str(file))
    assert file.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(file):
    file.mkdir()
    with pytest.raises(MissingInput, match=r"state\.json is not a state file \(Is a directory\); move it away\."):
        read_state(file, Outer, "a state file", "move it away", MissingInput)


def test_a_byte_order_mark_is_named(tmp_path):
    file = tmp_path / "splits_final.json"
    file.write_bytes(b"\xef\xbb\xbf[]")
    with pytest.raises(CampaignError, match="begins with a byte order mark"):
        read_state(file, list[str], "a list")


@pytest.mark.parametrize(("content", "read"), [('{"a": 1}', {"a": 1}), ("{", None), (b"\xff\xfe", None), (None, None)])
def test_a_file_that_can_be_made_anew_is_none_where_it_is_damaged_or_not_there(tmp_path, content, read):
    file = tmp_path / "found.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_remade_json(file) == read
