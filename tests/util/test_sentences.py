from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from full_disk import files_up_to

from nnunet_active.util.atomic import atomic_file, atomic_folder, copy_file, temporary_name, write_text
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


def test_the_disk_that_is_full_is_named_and_not_the_one_that_was_copied_from(tmp_path):
    source, target = tmp_path / "source", tmp_path / "there" / "target"
    source.write_bytes(bytes(100_000))
    with files_up_to(20_000), pytest.raises(OSError, match="large") as error:
        copy_file(source, target)
    sentence, _ = one_sentence(error.value)
    assert sentence.startswith(f"{target.parent}: File too large; the file system or a limit (ulimit -f) allows no")


def test_a_file_that_python_does_not_name_is_named_where_there_is_no_room_for_it(tmp_path):
    with files_up_to(20_000), pytest.raises(OSError, match="large") as error:
        write_text(tmp_path / "page.html", "x" * 100_000)
    assert one_sentence(error.value)[0].startswith(f"{tmp_path / 'page.html'}: File too large")
    with pytest.raises(OSError, match="odd") as error, atomic_file(tmp_path / "file"):
        raise OSError(errno.EIO, "odd")  # may be of anything that was read
    assert error.value.filename is None


def test_of_a_file_in_a_temporary_folder_the_place_is_named_that_people_know(tmp_path):
    with atomic_folder(tmp_path / "round") as folder:
        sentence, _ = one_sentence(OSError(28, os.strerror(28), str(folder / "CASE" / "CASE.nii.gz")))
    assert sentence.startswith(f"{tmp_path}: No space left on device")


def test_a_full_disk_is_said_also_where_blosc_finds_it(tmp_path):
    noise = np.random.default_rng(0).normal(size=100_000)
    with files_up_to(20_000), pytest.raises(RuntimeError) as error:
        blosc2.asarray(noise, urlpath=str(tmp_path / "a.b2nd"))
    sentence, code = one_sentence(error.value)
    assert code == 1 and sentence.startswith("A preprocessed case cannot be written, as where a disk is full; make")


def test_a_library_that_does_not_name_the_full_disk_has_it_named(tmp_path):
    with (
        files_up_to(20_000),
        pytest.raises(OSError, match="No space") as error,
        atomic_file(tmp_path / "a.pth") as file,
    ):
        torch.save({"weights": torch.zeros(10**6)}, file)
    assert one_sentence(error.value)[0].startswith(f"{tmp_path / 'a.pth'}: No space left on device; make room there")
    noise = np.random.default_rng(0).normal(size=100_000)
    with files_up_to(20_000), pytest.raises(OSError, match="No space") as error, atomic_folder(tmp_path / "set") as new:
        blosc2.asarray(noise, urlpath=str(new / "a.b2nd"))
    assert one_sentence(error.value)[0].startswith(f"{tmp_path / 'set'}: No space left on device; make room there")
    with files_up_to(20_000), pytest.raises(OSError, match="large") as error, atomic_folder(tmp_path / "set") as new:
        write_pickle(noise, str(new / "a.pkl"))
    assert one_sentence(error.value)[0].startswith(f"{tmp_path / 'set'}: File too large")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="odd"), atomic_folder(tmp_path / "set"):
        raise RuntimeError("odd")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_full_disk_is_said_also_where_itk_finds_it(tmp_path, ending):
    noise = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (10, 50, 50)).astype(np.uint8))
    with files_up_to(5000), pytest.raises(RuntimeError) as error:
        sitk.WriteImage(noise, tmp_path / f"a{ending}", True)
    sentence, code = one_sentence(error.value)
    assert code == 1 and sentence.startswith("An image cannot be written, as where a disk is full; make room")


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
