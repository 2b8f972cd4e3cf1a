from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_dataset as tiny

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.image_size import check_size
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.errors import BadCase

CASE = RawCase("a", (Path("a_0000.nii.gz"),), None)
FLAT = Geometry.of_facts((40, 30), (1, 1), (0, 0), (1, 0, 0, 1))


def geometry(spacing) -> Geometry:
    return Geometry.of_facts((14, 16, 6), spacing, (0, 0, 0), np.eye(3).ravel())


def store(folder, configuration="3d_fullres") -> CaseStore:
    return CaseStore(folder, tiny.make_plans(), configuration)


def test_ordinary_scans_pass(tmp_path):
    assert check_size(CASE, geometry(tiny.SPACING), store(tmp_path)) is None
    assert check_size(CASE, geometry((1, 1, 40)), store(tmp_path, "2d")) is None


def test_a_localizer_among_three_dimensional_scans_is_refused_and_a_2d_configuration_takes_it(tmp_path):
    with pytest.raises(BadCase, match=r"Case a: .*2-D image .a localizer.. among 3-D scans"):
        check_size(CASE, FLAT, store(tmp_path))
    check_size(CASE, FLAT, store(tmp_path, "2d"))


def test_a_scan_of_which_nothing_would_be_left_is_refused_with_its_size(tmp_path):
    with pytest.raises(BadCase, match=r"only 0\.014 x 0\.016 x 0\.018 mm large.*check the units"):
        check_size(CASE, geometry((0.001, 0.001, 0.003)), store(tmp_path))


def test_a_format_without_geometry_says_nothing_of_its_size(tmp_path):
    assert check_size(CASE, Geometry.of_shape((1, 4, 4), (999, 1, 1)), store(tmp_path)) is None
