"""``CASE.nii`` beside ``CASE.nii.gz``: ITK reads the header of the packed file, and then takes the voxels of the other one.

So does nnU-Net where ITK reads for it. A prediction that is handed over as ``CASE.nii`` would hide what an annotator saves as
``CASE.nii.gz``, without an error.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

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
