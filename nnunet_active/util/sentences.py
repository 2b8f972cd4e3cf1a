"""Turns every error into one sentence, for the command line and for the trainers."""

from __future__ import annotations

import errno
import locale
import os
import sys
import traceback
from pathlib import Path
from typing import IO

from nnunet_active.util.atomic import UNWRITTEN, without_temporary
from nnunet_active.util.errors import ActiveError

WHOLE = "NNUNET_ACTIVE_TRACEBACK"
"""Environment variable: if set, the traceback of an unexpected error is shown as well."""

INCOMPLETE = 1
"""Exit code of errors after something may have been written; what was written is whole."""

_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no file of that size",
    errno.EACCES: "its owner has to allow it",
    errno.EPERM: "its owner has to allow it",
    errno.EROFS: "it is on a file system that cannot be written to",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away",
    errno.EISDIR: "a folder stands where a file belongs; move it away",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
    errno.ENAMETOOLONG: "its name is too long for the file system",
    errno.ENOENT: "it has gone while it was needed",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def one_sentence(error: BaseException) -> tuple[str, int]:
    """The sentence for the user, and the exit code.

    An unforeseen fault, in a file or in the program, is reported with its type and its place, so that the user can pass it on.
    """
    if isinstance(error, ActiveError):
        return str(error), error.exit_code
    again = "What was finished is kept, and the same command goes on."
    if isinstance(error, OSError) and error.errno is not None:
        # of a copy that fails, the second name is the one that was written
        name = error.filename2 or error.filename
        file = "" if name is None else f"{without_temporary(str(name))}: "
        advice = _ADVICE.get(error.errno, "see to it")
        advice = advice if file else advice.removesuffix(" there")
        return f"{file}{error.strerror or os.strerror(error.errno)}; {advice}, then try again. {again}", INCOMPLETE
    unwritten = [what for sign, what in UNWRITTEN.items() if sign in str(error)]
    if isinstance(error, RuntimeError) and unwritten:
        return (
            f"{unwritten[0]} cannot be written, as where a disk is full; make room, then try again. {again}",
            INCOMPLETE,
        )
    if isinstance(error, MemoryError):
        return f"There is not enough memory. {again}", INCOMPLETE
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "an unknown place"
    said = " ".join(str(error).split())
    sentence = (
        f"Something went wrong that nnunet_active did not foresee: {type(error).__name__}: {said[:300] or 'no more is known'} "
        f"({place}). A file may be damaged, or this is a fault of the program; set {WHOLE}=1 to see all of it. {again}"
    )
    if os.environ.get(WHOLE):
        sentence = f"{''.join(traceback.format_exception(error))}\n{sentence}"
    return sentence, INCOMPLETE


def show_everything(*streams: IO[str]) -> None:
    """From now on replace characters that a terminal cannot show (standard output and errors), instead of ending the program."""
    for stream in streams or (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def writable(text: object) -> str:
    """A text without characters that the system's own encoding cannot hold (nnU-Net writes its log in that encoding)."""
    encoding = locale.getpreferredencoding(False)
    return str(text).encode(encoding, errors="replace").decode(encoding)
