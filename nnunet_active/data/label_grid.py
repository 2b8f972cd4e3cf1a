"""Bring a label file onto the voxel grid of its image without changing a value: reordered or flipped axes and a smaller or larger
box are moved voxel by voxel; anything that would need interpolation is refused.

With ``A = direction * spacing`` and origin ``o`` of label and image, voxel ``i`` of the label is voxel ``P i + t`` of the image, where
``P = A_image^-1 A_label`` and ``t = A_image^-1 (o_label - o_image)``. It is exact if ``P`` is a signed permutation and ``t`` is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from nnunet_active.data.geometry import GRID_TOLERANCE, Geometry
from nnunet_active.util.errors import BadCase


def place(array: np.ndarray, label: Geometry, image: Geometry, what: str) -> tuple[np.ndarray, str]:
    """The label's voxels on the grid of the image; 0 where the label file does not reach.

    Args:
        array: (..., Z, Y, X), further axes first; the last axes are ``label.size`` reversed.
        label: the grid of ``array``.
        image: the grid that it must have.
        what: the file's name for messages.

    Returns:
        (..., Z, Y, X) of the image's size, same type; and how the voxels were moved, in words, empty if they stayed in place.

    Raises:
        BadCase: the grids differ by more than whole voxels; foreground lies outside the image; or the label's box looks as if its
            header had lost its origin or the order of its axes.
    """
    label, image = _in_three_dimensions(label, image, what)
    dimension = 3
    steps, start = _whole_steps(label, image, what)
    axes = [int(np.argmax(np.abs(row))) for row in steps]  # for each axis of the image, the label's axis
    signs = [int(steps[target, source]) for target, source in enumerate(axes)]
    further = array.ndim - dimension
    # numpy's axes are (z, y, x), those of the grids (x, y, z)
    moved = array.transpose(*range(further), *[array.ndim - 1 - axes[dimension - 1 - n] for n in range(dimension)])
    moved = moved[(..., *[slice(None, None, signs[dimension - 1 - n]) for n in range(dimension)])]
    lengths = [label.size[axis] for axis in axes]
    first = [s if sign > 0 else s - (length - 1) for s, sign, length in zip(start, signs, lengths, strict=True)]
    inside_image = tuple(
        slice(max(f, 0), min(f + n, size)) for f, n, size in zip(first, lengths, image.size, strict=True)
    )[::-1]
    inside_label = tuple(
        slice(max(-f, 0), max(min(n, size - f), 0)) for f, n, size in zip(first, lengths, image.size, strict=True)
    )[::-1]
    placed = np.zeros((*array.shape[:further], *image.size[::-1]), dtype=array.dtype)
    if all(part.stop > part.start for part in inside_image):
        placed[(..., *inside_image)] = moved[(..., *inside_label)]
    marked = int(np.count_nonzero(array))
    outside = marked - int(np.count_nonzero(placed))
    if outside:
        raise BadCase(
            f"{what} marks {outside} voxels outside its image (box of {_text(label.size)} voxels that begins at voxel "
            f"{_text(first)} of the image's {_text(image.size)}); it seems to belong to another image, or remove these voxels."
        )
    if marked:
        _check_box(label, image, first, lengths, what)
    turned = axes != [0, 1, 2] or min(signs) < 0
    if not any(first) and tuple(lengths) == image.size:
        return placed, "its axes were turned to those of the image" if turned else ""
    return placed, (
        f"its box of {_text(label.size)} voxels{', its axes turned to those of the image,' if turned else ''} was put at voxel "
        f"{_text(first)} of the image's {_text(image.size)}, where its header says that it lies"
    )


def place_by_either(
    array: np.ndarray, label: Geometry, image: Geometry, others: Sequence[Geometry], what: str
) -> tuple[np.ndarray, str]:
    """As :func:`place`, for an image whose header holds several geometries: programs save a label with the one that they go by.

    A label that lies on the image's grid stays there. Any other is placed by the geometry that allows it.

    Args:
        array, label, image, what: as for :func:`place`.
        others: :func:`~nnunet_active.data.geometry.other_geometries` of the image.

    Raises:
        BadCase: no geometry allows it, or several do and its voxels would lie elsewhere by each.
    """
    if not others or (label.size == image.size and image.fits(label)):
        return place(array, label, image, what)
    found: list[tuple[np.ndarray, str]] = []
    refused: list[BadCase] = []
    for grid in (image, *others):
        try:
            found.append(place(array, label, grid, what))
        except BadCase as error:
            refused.append(error)
    if not found:
        raise refused[0]
    if not all(np.array_equal(found[0][0], voxels) for voxels, _ in found):
        raise BadCase(
            f"{what} can be read in two ways, since the header of its image has two geometries (qform and sform), of which one lies "
            f"{image.difference(others[0])}; save it again with the whole header of the image (in nibabel: "
            f"Nifti1Image(voxels, image.affine, image.header)), or from a program that goes by ITK (3D Slicer, ITK-SNAP, MITK)."
        )
    voxels, moved = found[0]
    if refused and not moved:  # by the other geometry, since one on the image's own grid was returned above
        moved = "its image's header has two geometries (qform and sform), and it lies on the one that nnU-Net does not go by"
    return voxels, moved


def _in_three_dimensions(label: Geometry, image: Geometry, what: str) -> tuple[Geometry, Geometry]:
    """Both grids in space. A 2-D file says nothing about its third axis: it is one slice, in the place of the other file's single
    slice. Programs that only know volumes (3D Slicer) save a 2-D image's label as such a slice. The volumes of a 4-D image count as
    channels, so its label has three axes.
    """
    if label.dimension == image.dimension or (label.dimension == 3 and image.dimension == 4):
        return label, image
    if {label.dimension, image.dimension} == {2, 3}:
        flat, solid = (label, image) if label.dimension == 2 else (image, label)
        normal = int(np.argmax(np.abs(solid.matrix[2])))
        if solid.size[normal] == 1:
            affine = flat.affine.copy()
            affine[2, 2], affine[2, 3] = solid.spacing[normal], solid.origin[2]
            flat = replace(flat, affine=affine)
            return (flat, image) if label.dimension == 2 else (label, flat)
    raise BadCase(
        f"{what} has {label.dimension} dimensions, but its image has {image.dimension}; save it as the image is."
    )


def _check_box(label: Geometry, image: Geometry, first: Sequence[int], lengths: Sequence[int], what: str) -> None:
    """A crop must lie inside its image, and a padded label around it. Programs do not make other boxes on purpose."""
    overhang = [f < 0 or f + n > size for f, n, size in zip(first, lengths, image.size, strict=True)]
    short = [f > 0 or f + n < size for f, n, size in zip(first, lengths, image.size, strict=True)]
    if label.size == image.size and any(overhang):
        reason = (
            f"it has the size of its image, {_text(image.size)} voxels, but begins at voxel {_text(first)} of it: its origin or its "
            f"directions got lost"
        )
    elif sorted(label.size) == sorted(image.size) and any(overhang):
        reason = (
            f"its {_text(label.size)} voxels are those of its image, {_text(image.size)}, in another order of the axes"
        )
    elif any(overhang) and any(short):
        reason = (
            f"its box of {_text(label.size)} voxels, which begins at voxel {_text(first)} of the image's {_text(image.size)}, sticks "
            f"out of it on one side and does not reach its end on another"
        )
    else:
        return
    raise BadCase(
        f"{what} would lie elsewhere than it was drawn: {reason}; save it again with the image as the reference geometry."
    )


def _whole_steps(label: Geometry, image: Geometry, what: str) -> tuple[np.ndarray, list[int]]:
    """``P`` and ``t`` of the module's formula, as integers."""
    inverse = np.linalg.inv(image.matrix)
    linear = inverse @ label.matrix
    start = inverse @ (np.asarray(label.origin) - np.asarray(image.origin))
    steps = np.rint(linear)
    permutation = np.array_equal(np.abs(steps).sum(axis=0), np.ones(len(steps))) and np.array_equal(
        np.abs(steps).sum(axis=1), np.ones(len(steps))
    )
    corners = np.array(list(product(*[(0, n - 1) for n in label.size])))
    turned = np.abs(corners @ (linear - steps).T).max() if permutation else np.inf
    if turned > GRID_TOLERANCE:
        found, wanted = _text(np.round(label.spacing, 4)), _text(np.round(image.spacing, 4))
        reason = (
            f"its voxels are {found} mm, the image's {wanted} mm"
            if sorted(np.round(label.spacing, 3)) != sorted(np.round(image.spacing, 3))
            else "its axes point in other directions than the image's"
        )
    else:
        # the remainder at the corners counts too: rounding of the directions adds to that of the origin
        left = np.abs(corners @ (linear - steps).T + (start - np.rint(start))).max()
        if left <= GRID_TOLERANCE:
            return steps.astype(int), [int(n) for n in np.rint(start)]
        reason = f"it is shifted by {_text(np.round(start - np.rint(start), 3))} of a voxel beyond whole voxels"
    raise BadCase(
        f"{what} does not lie on the voxel grid of its image: {reason}; save it again with the image as the reference geometry "
        f"(labels are never interpolated)."
    )


def _text(numbers: object) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
