from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from nnunet_active.util.atomic import temporary_name
from nnunet_active.util.errors import EmptyPool, MissingInput
from nnunet_active.util.sentences import WHOLE, one_sentence, show_everything, writable


def test_errors_of_the_package_keep_their_text_and_code():
    assert one_sentence(MissingInput("It is not there.")) == ("It is not there.", 2)
    assert one_sentence(EmptyPool("Nobody is left.")) == ("Nobody is left.", 0)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda folder: (folder / "file" / "below").mkdir(), "a file stands where a folder belongs"),
        (lambda folder: (folder / "folder").read_text(), "a folder stands where a file belongs"),
        (lambda folder: (folder / ("x" * 300)).touch(), "its name is too long"),
        (lambda folder: (folder / "nothing").read_text(), "it has gone"),
    ],
)
def test_what_the_file_system_refuses_is_said_with_the_file_and_what_to_do(tmp_path, action, said):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as error:
        action(tmp_path)
    sentence, code = one_sentence(error.value)
    assert code == 1 and said in sentence and str(tmp_path) in sentence and "\n" not in sentence


def test_a_full_disk_is_said():
    sentence, code = one_sentence(OSError(28, os.strerror(28), "/somewhere/file"))
    assert code == 1 and sentence.startswith("/somewhere/file: No space left on device; make room there")
    assert one_sentence(OSError(28, os.strerror(28)))[0].startswith("No space left on device; make room, then")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_also_where_pytorch_finds_it():
    with pytest.raises(RuntimeError) as error:
        torch.save({"weights": torch.zeros(10**6)}, "/dev/full")
    sentence, code = one_sentence(error.value)
    assert code == 1 and sentence.startswith("A checkpoint cannot be written, as where a disk is full; make room")


@pytest.mark.parametrize(
    "error",
    [TypeError("a\nb"), struct.error("short"), RecursionError(), zipfile.BadZipFile("not a zip"), OSError("odd")],
)
def test_whatever_else_is_one_line_with_its_kind(error, monkeypatch):
    monkeypatch.delenv(WHOLE, raising=False)
    try:
        raise error
    except Exception as raised:
        sentence, code = one_sentence(raised)
    assert code == 1 and type(error).__name__ in sentence and "\n" not in sentence and "test_sentences.py" in sentence
    monkeypatch.setenv(WHOLE, "1")
    assert "Traceback" in one_sentence(error)[0]


def test_what_a_terminal_cannot_show_is_replaced():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show_everything(stream)
    print("Ödem", file=stream, flush=True)
    assert raw.getvalue() == b"?dem\n"


def test_a_text_for_a_file_of_the_systems_encoding_keeps_what_it_can(monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda do_setlocale: "latin-1")
    assert writable("Ödem Łódź") == "Ödem ?ód?"


def test_of_a_temporary_file_the_folder_is_named():
    where = os.path.join("labels", temporary_name(Path("case_2.nii.gz")).name)
    said, code = one_sentence(PermissionError(errno.EACCES, "Permission denied", where))
    assert said.startswith("labels: Permission denied; its owner has to allow it") and code == 1
