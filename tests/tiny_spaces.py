"""Images in all sorts of spaces and formats, and a network that sees one bright spot, for tests of what an annotator gets."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
import tiny_source
import torch
from scipy.spatial.transform import Rotation

from nnunet_active.annotation.records import HandoffCase
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.data.raw_dataset import RawCase

SHAPE = (9, 12, 10)  # Z, Y, X
SPACING = (0.7812345, 1.1, 3.3000001)  # x, y, z
ORIGIN = (-101.337, 54.2, 7.77777)
MARKER = (5, 7, 3)  # Z, Y, X
TUMOUR = {"background": 0, "oedema": 1, "core": 2}
DIRECTIONS = {
    "identity": np.eye(3),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "mirrored": np.diag([1.0, -1.0, 1.0]),  # left-handed
    "permuted": np.eye(3)[[1, 2, 0]],
    "oblique": Rotation.from_euler("xyz", [17.3, -8.1, 33.7], degrees=True).as_matrix(),
    "oblique and mirrored": Rotation.from_euler("xyz", [-41, 12, 5], degrees=True).as_matrix() @ np.diag([1, 1, -1.0]),
}


def voxels(seed: int = 0) -> np.ndarray:
    """Noise with one bright voxel (MARKER) and a border of zeros on one side, which preprocessing cuts off."""
    array = np.random.default_rng(seed).normal(100, 5, SHAPE).astype(np.float32)
    array[:2] = 0
    array[MARKER] = 1000
    return array


def affine(direction: np.ndarray, spacing=SPACING, origin=ORIGIN) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = direction * np.asarray(spacing)
    matrix[:3, 3] = origin
    return matrix


def write_nifti(
    file: Path, direction: np.ndarray, codes=(1, 1), kind=nibabel.Nifti1Image, array=None, order="<"
) -> Path:
    """A NIfTI image with these qform and sform codes; the two forms differ a little, as scanners' do."""
    array = voxels() if array is None else array
    header = kind.header_class(endianness=order)
    image = kind(array.transpose().astype(np.dtype(np.float32).newbyteorder(order)), None, header)
    image.set_qform(affine(direction), code=codes[0])
    image.set_sform(affine(direction), code=codes[1])
    image.header["srow_x"][3] += 1e-5
    image.header.set_xyzt_units("mm", "sec")
    file.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(file)
    return file


def write_with_two_forms(file: Path, codes: tuple[int, int], direction: np.ndarray, array=None, origin=ORIGIN) -> Path:
    """A NIfTI image whose sform, with this direction and origin, lies elsewhere than its qform, which has no rotation."""
    image = nibabel.Nifti1Image((voxels() if array is None else array).transpose(), None)
    image.set_qform(affine(DIRECTIONS["identity"]), code=codes[0])
    image.set_sform(affine(direction, origin=origin), code=codes[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(file)
    return file


def write_itk(file: Path, direction: np.ndarray, array=None) -> Path:
    image = sitk.GetImageFromArray(voxels() if array is None else array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction.ravel())
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


def itk_geometry(file: Path) -> tuple:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    return reader.GetSize(), reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection()


def see_bright(image: np.ndarray) -> torch.Tensor:
    """Logits of the "network": class 1 where the image is bright, unsure in its 6 neighbours, sure of background elsewhere."""
    bright = image[0] > 0.5 * image[0].max()
    logits = np.zeros((3, *bright.shape), dtype=np.float32)
    logits[0] = 20
    for axis in range(3):
        for step in (-1, 1):
            logits[0][np.roll(bright, step, axis)] = 1
    logits[1][bright] = 40
    return torch.from_numpy(logits).half()


def make_store(
    folder: Path, reader: str, ending: str, labels: dict | None = None, transpose=(0, 1, 2), spacing=SPACING, **more
) -> tuple[CaseStore, dict]:
    """A store with plans for one channel at the images' own spacing, so that nothing is resampled; and its dataset.json."""
    description = tiny_source.dataset_json(("T1",), TUMOUR if labels is None else labels, **more)
    description["file_ending"] = ending
    plans = tiny_source.plans(("3d_fullres",), 1)
    plans["image_reader_writer"] = reader
    plans["transpose_forward"] = list(transpose)
    plans["transpose_backward"] = [int(n) for n in np.argsort(transpose)]
    plans["configurations"]["3d_fullres"]["spacing"] = [float(spacing[::-1][axis]) for axis in transpose]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description))
    return CaseStore(folder, plans, "3d_fullres"), description


def add_case(store: CaseStore, description: dict, *files: Path, rank: int = 1, **facts) -> HandoffCase:
    """Preprocess an image named CASE_0000<ending> and make it a case to hand over."""
    identifier = files[0].name.removesuffix(f"_0000{description['file_ending']}")
    raw = RawCase(identifier, tuple(files), None)
    preprocess_case(raw, store, description)
    return HandoffCase(raw, "T1", rank, facts)
