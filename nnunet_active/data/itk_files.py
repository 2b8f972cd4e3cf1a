"""Files that ITK reads and writes wrong without an error.

* Of ``CASE.nii.gz`` it reads the header, and takes the voxels from ``CASE.nii`` if that lies beside it. So does nnU-Net where ITK
  reads for it. A prediction that is handed over as ``CASE.nii`` would hide what an annotator saves as ``CASE.nii.gz``.
* On a full disk it writes a part of a NIfTI or GIPL file, and says nothing.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_active.data.gipl import ENDINGS as GIPL_ENDINGS
from nnunet_active.data.gipl import check_gipl_is_whole
from nnunet_active.util.atomic import copy_file


def unpacked_twin(file: Path) -> Path | None:
    """The file beside a packed NIfTI file whose voxels ITK would take for its own; None: there is none."""
    twin = file.with_suffix("")
    return twin if file.name.lower().endswith(".nii.gz") and twin.is_file() else None


@contextmanager
def without_twin(file: Path) -> Iterator[Path]:
    """Yield a path from which every library reads the file itself: a link in an empty folder where it has a twin."""
    if unpacked_twin(file) is None:
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / file.name
        try:
            alone.symlink_to(os.path.abspath(file))
        except OSError:  # Windows has no links for ordinary users
            copy_file(file, alone)
        yield alone


def read_itk(file: Path) -> sitk.Image:
    """What ITK reads from a file, whatever lies beside it.

    Raises:
        RuntimeError: it cannot be read.
    """
    with without_twin(file) as alone:
        return sitk.ReadImage(str(alone))


def write_itk(image: sitk.Image, file: Path) -> None:
    """Write an image, packed where the format can be, and read it again.

    Raises:
        OSError: it could not be written, or not all of it.
    """
    try:
        sitk.WriteImage(image, str(file), True)
    except RuntimeError as error:
        raise _cannot_write(file) from error
    try:
        if file.name.lower().endswith(GIPL_ENDINGS):
            check_gipl_is_whole(file)  # what is missing, ITK takes from memory, where the voxels still are
        whole = np.array_equal(sitk.GetArrayFromImage(read_itk(file)), sitk.GetArrayViewFromImage(image))
    except (RuntimeError, ValueError, OSError, EOFError):
        whole = False
    if not whole:
        raise _cannot_write(file)


def _cannot_write(file: Path) -> OSError:
    """ITK does not tell why; of what it is given here, a full disk is all that is left."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
