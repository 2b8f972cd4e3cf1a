from __future__ import annotations

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from tiny_target import make_target

from nnunet_active.data.cases import CaseStore
from nnunet_active.query import pool_density
from nnunet_active.query.pool_density import density_of_cases
from nnunet_active.scoring import density


@pytest.fixture
def made(nnunet_folders):
    return make_target(nnunet_folders, labelled=2, unlabelled=2)


def test_density_is_computed_once_per_image_and_follows_a_changed_image(made, tmp_path):
    target = made
    cases = target.store.identifiers()
    said: list[str] = []
    rho = density_of_cases(target.store, cases, tmp_path / "cache.npz", log=said.append)
    signatures = np.stack([density.case_signature(target.store.load_image(case)) for case in cases])
    distances = density.pairwise_distances(signatures)
    np.testing.assert_allclose(rho, density.neighbour_density(distances, density.default_radius(distances)))
    assert len(said) == 1
    again = density_of_cases(target.store, cases, tmp_path / "cache.npz", log=said.append)
    assert again.equals(rho)
    assert len(said) == 1  # nothing new to tell

    shutil.copyfile(target.store.image_file("case_1"), target.store.image_file("case_0"))
    changed = density_of_cases(target.store, cases, tmp_path / "cache.npz", log=said.append)
    fresh = density_of_cases(target.store, cases, tmp_path / "fresh.npz")
    assert changed.equals(fresh) and changed["case_0"] == changed["case_1"]


def test_density_reads_an_image_again_only_if_its_file_has_changed(made, tmp_path, monkeypatch):
    target = made
    read: Counter = Counter()
    real = CaseStore.load_image
    monkeypatch.setattr(CaseStore, "load_image", lambda self, case: read.update([case]) or real(self, case))
    cases, file = target.store.identifiers(), tmp_path / "cache.npz"
    rho = density_of_cases(target.store, cases, file)
    read.clear()
    assert density_of_cases(target.store, cases, file).equals(rho) and not read
    os.utime(target.store.image_file("case_1"), ns=(1, 1))  # another time, the same voxels, as when a label arrives
    assert density_of_cases(target.store, cases, file).equals(rho) and read == {"case_1": 1}
    read.clear()
    assert density_of_cases(target.store, cases, file).equals(rho) and not read


def test_a_voxel_that_is_no_number_sets_its_image_aside(made, tmp_path, monkeypatch):
    cases, said = made.store.identifiers(), []
    real = CaseStore.load_image

    def broken(self, case):
        image = np.array(real(self, case))
        image[0, 0, 0, 0] = np.nan if case == cases[1] else image[0, 0, 0, 0]
        return image

    monkeypatch.setattr(CaseStore, "load_image", broken)
    rho = density_of_cases(made.store, cases, tmp_path / "cache.npz", log=said.append)
    assert list(rho.index) == [case for case in cases if case != cases[1]]
    assert said[0].startswith(f"WARNING: {cases[1]}: ") and said[0].endswith("It is left out of the density.")


def test_density_is_computed_anew_where_the_images_have_another_number_of_channels(made, tmp_path, monkeypatch):
    cases, file = made.store.identifiers(), tmp_path / "cache.npz"
    real, channels = CaseStore.load_image, [1]
    monkeypatch.setattr(CaseStore, "load_image", lambda self, case: real(self, case)[: channels[0]])
    density_of_cases(made.store, cases, file)
    for case in cases:  # preprocessed anew
        os.utime(made.store.image_file(case), ns=(1, 1))
    channels[0] = 2
    rho = density_of_cases(made.store, cases, file)
    assert rho.equals(density_of_cases(made.store, cases, tmp_path / "fresh.npz"))
    with np.load(file) as content:
        assert len(content["digests"]) == len(cases)


def test_density_goes_on_from_a_file_of_an_earlier_version(made, tmp_path):
    target = made
    cases, file = target.store.identifiers(), tmp_path / "cache.npz"
    rho = density_of_cases(target.store, cases, file)
    with np.load(file) as content:
        old = {name: content[name] for name in ("digests", "signatures")}
    np.savez(file, **old)
    said: list[str] = []
    assert density_of_cases(target.store, cases, file, log=said.append).equals(rho) and not said


def test_density_that_was_killed_goes_on_with_the_images_that_are_left(made, tmp_path, monkeypatch):
    target = made
    cases, file = target.store.identifiers(), tmp_path / "cache.npz"
    monkeypatch.setattr(pool_density, "KEPT_AFTER", 1)
    read, real = [], CaseStore.load_image

    def load(self, case):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(case)
        return real(self, case)

    monkeypatch.setattr(CaseStore, "load_image", load)
    with pytest.raises(KeyboardInterrupt):
        density_of_cases(target.store, cases, file)
    monkeypatch.setattr(CaseStore, "load_image", lambda self, case: read.append(case) or real(self, case))
    assert density_of_cases(target.store, cases, file).notna().all() and read == cases
