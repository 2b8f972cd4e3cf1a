"""Whether the plans suit a scan: nnU-Net resamples any scan, if need be to 999 slices or to none."""

from __future__ import annotations

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.errors import BadCase


def check_size(case: RawCase, geometry: Geometry, store: CaseStore) -> None:
    """Make sure that a scan has the dimensions of its configuration and does not vanish when it is resampled.

    Args:
        case: for the messages.
        geometry: of its image; formats without geometry pass.
        store: for plans and configuration.

    Raises:
        BadCase: a 2-D image for a 3-D configuration (nnU-Net gives it a slice thickness of 999 times its spacing), or a scan that is
            smaller than a voxel of the plans.
    """
    target = store.configuration_manager.spacing
    if len(target) < 3 or not geometry.known:
        return
    file = case.images[0]
    if geometry.dimension == 2:
        raise BadCase(
            f"Case {case.identifier}: {file} is a 2-D image (a localizer?) among 3-D scans; take it out of the folder, or use a 2d "
            f"configuration."
        )
    extent = [size * step for size, step in zip(geometry.size, geometry.spacing, strict=True)]  # x, y, z
    in_order = [extent[::-1][axis] for axis in store.plans_manager.transpose_forward]
    if any(round(length / step) < 1 for length, step in zip(in_order, target, strict=True)):
        raise BadCase(
            f"Case {case.identifier}: {file} is only {' x '.join(f'{length:.3g}' for length in extent)} mm large, less than a voxel of "
            f"the plans; check the units of its spacing."
        )
