"""Labels written as nnU-Net wants them: in the data set's own format, with the geometry of their image."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_active.data.dataset_json import allowed_label_values, ignore_value
from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.image_checks import check_label
from nnunet_active.data.label_reader import last_line
from nnunet_active.data.maps import write_map_like
from nnunet_active.util.atomic import copy_file, naming_full_disk
from nnunet_active.util.errors import BadCase


def companions_of(label: Path) -> list[Path]:
    """Further files of a label: nnU-Net keeps the spacing of a TIFF file in a JSON file beside it."""
    beside = label.with_suffix(".json")
    return [beside] if label.name.lower().endswith((".tif", ".tiff")) and beside.is_file() else []


def copy_label(label: Path, target: Path) -> None:
    """Copy a label file and its companions, whatever its name was; the label itself last, in one step."""
    for companion in companions_of(label):
        copy_file(companion, target.with_suffix(".json"))
    copy_file(label, target)


def write_label(
    case: str, voxels: np.ndarray, target: Path, image: Path, dataset_json: dict, reader: type[BaseReaderWriter]
) -> list[str]:
    """Write a label with the geometry of its image, whole or not at all, after nnU-Net's own reader has accepted it.

    Args:
        case: identifier, for messages.
        voxels: (Z, Y, X) uint8 or uint16, as from :func:`~nnunet_active.data.label_reader.read_label`.
        target: ``labelsTr/CASE<ending>``; replaced in one step.
        image: the case's first channel.
        dataset_json: for the labels.
        reader: nnU-Net's reader of the data set.

    Returns:
        Warnings of the check (no foreground).

    Raises:
        BadCase: preprocessing would refuse the file; nothing is written.
    """
    ending = dataset_json["file_ending"]
    # in a folder of its own: image libraries need the right ending, and nnU-Net treats every file in labelsTr as a label
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"{case}{ending}"
        try:
            with naming_full_disk(temporary), contextlib.redirect_stdout(io.StringIO()):
                if carries_geometry(ending):
                    write_map_like(voxels, image, temporary, ending)
                else:
                    _, properties = reader().read_images([str(image)])
                    reader().write_seg(voxels, str(temporary), properties)
        except (ValueError, RuntimeError) as error:
            raise BadCase(f"Case {case}: the image {image} cannot be read ({last_line(error)}); replace it.") from error
        try:
            warnings = check_label(
                case, temporary, [image], allowed_label_values(dataset_json), reader, ignore=ignore_value(dataset_json)
            )
        except BadCase as error:
            raise BadCase(str(error).replace(str(temporary), str(target))) from error
        copy_label(temporary, target)
    return [warning.replace(str(temporary), str(target)) for warning in warnings]
