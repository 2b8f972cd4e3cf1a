"""Label maps and uncertainty maps with exactly the original image's geometry, in the image's own format.

NIfTI and NRRD: the header's own fields are copied (see ``nifti`` and ``nrrd``). MetaImage and GIPL: SimpleITK writes them, and
gives back the same numbers for these formats. PNG, TIFF and BMP store no geometry; the data set's own reader and writer handles them.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_active.data.file_endings import NIFTI, carries_geometry
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.itk_files import write_itk
from nnunet_active.data.nifti import write_nifti_like
from nnunet_active.data.nrrd import read_nrrd_geometry, write_nrrd


def map_ending(ending: str) -> str:
    """Ending of an uncertainty map for images with ``ending``: the same format if it can hold the same geometry, else NIfTI."""
    return ending if ending.lower() in (".nrrd", ".mha") else ".nii.gz"


def to_file_order(array: np.ndarray, properties: dict) -> np.ndarray:
    """Voxels in file order, from voxels in the order of the data set's reader; they differ only for readers that reorient.

    Args:
        array: (Z, Y, X).
        properties: the reader's properties of the image.
    """
    if "reoriented_affine" in properties.get("nibabel_stuff", {}):
        stored = io_orientation(properties["nibabel_stuff"]["original_affine"])
        change = ornt_transform(axcodes2ornt("RAS"), stored)
        return np.ascontiguousarray(apply_orientation(array.transpose(), change).transpose())
    stuff = properties.get("sitk_stuff", {})
    if "original_orientation" in stuff and len(stuff["spacing"]) == 3:
        image = sitk.GetImageFromArray(array)
        image.SetDirection(stuff["direction"])
        return sitk.GetArrayFromImage(sitk.DICOMOrient(image, stuff["original_orientation"]))
    return array


def write_label_like(
    array: np.ndarray, image: Path, target: Path, ending: str, reader: type[BaseReaderWriter], properties: dict
) -> None:
    """Write a label map beside an image: same size, origin, spacing and direction, bit for bit.

    Args:
        array: (Z, Y, X) uint8 or uint16, in the reader's order.
        image: file of the first channel.
        target: ends with ``ending``.
        ending: the data set's file ending.
        reader: the data set's reader class, which writes formats without geometry.
        properties: the reader's properties of the image.

    Raises:
        ValueError, RuntimeError: the image cannot be read, or differs in size.
    """
    if carries_geometry(ending):
        write_map_like(to_file_order(array, properties), image, target, ending)
    else:
        reader().write_seg(array, str(target), properties)


def write_map_like(array: np.ndarray, image: Path, target: Path, ending: str, level: int = 6) -> None:
    """Write voxels with the geometry of an image, in the format of the target's ending.

    Args:
        array: (Z, Y, X) uint8, uint16 or float32, in the order in which the image stores them.
        image: where the geometry comes from.
        target: NIfTI, or with the image's own ending.
        ending: ending of the image.
        level: of the compression.

    Raises:
        ValueError, RuntimeError: the image cannot be read, or differs in size.
    """
    kind = ending.lower()
    if kind in NIFTI:
        write_nifti_like(array, image, target, level)
    elif kind == ".nrrd":
        write_nrrd(array, read_nrrd_geometry(image), target, level=level)
    else:
        geometry = Geometry.of_file(image, array.shape)
        if geometry.shape != array.shape:
            raise ValueError(
                f"its voxels {geometry.size} (x, y, z) are not those of the prediction {array.shape[::-1]}"
            )
        write_itk(_itk_image(array, image), target)


def _itk_image(array: np.ndarray, image: Path) -> sitk.Image:
    if not carries_geometry(image.name):
        return sitk.GetImageFromArray(array)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(image))
    reader.ReadImageInformation()
    written = sitk.GetImageFromArray(array[0] if reader.GetDimension() == 2 else array)
    # the header's own numbers: recomputing them from a matrix changes the last digit
    written.SetSpacing(reader.GetSpacing())
    written.SetOrigin(reader.GetOrigin())
    written.SetDirection(reader.GetDirection())
    return written


def read_in_file_order(file: Path, ending: str, reader: type[BaseReaderWriter] | None = None) -> np.ndarray:
    """Voxels (Z, Y, X) of a label or uncertainty map, in the order in which the file stores them.

    Args:
        file: what to read.
        ending: its ending.
        reader: the data set's reader class, for formats without geometry.

    Raises:
        Exception: whatever the image library raises for a damaged file.
    """
    if ending.lower() in NIFTI:
        voxels = np.asarray(nibabel.load(file).dataobj).transpose()
    elif carries_geometry(ending):
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    else:
        voxels = reader().read_seg(str(file))[0]
    while voxels.ndim > 3 and voxels.shape[0] == 1:
        voxels = voxels[0]
    return np.ascontiguousarray(voxels[None] if voxels.ndim == 2 else voxels)
