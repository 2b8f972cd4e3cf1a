from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ranks_of_a_test import on_ranks
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.data.cases import open_store
from nnunet_active.training import pool_certificate
from nnunet_active.training.certificate_table import certificate_of, read_certificate
from nnunet_active.training.pool_certificate import PoolCertificate, TwoNetworks, drawn_cases
from nnunet_active.util.ranks import Ranks

LABELS = {"background": 0, "oedema": 1, "core": 2}
CASES = [f"case_{i}" for i in range(4)]


class TwoProphets:
    """A window whose source finds everything and whose adapted network misses the core of the first case; counts its passes."""

    def __init__(self, store) -> None:
        self.of_image = {store.load_image(case).tobytes(): number for number, case in enumerate(CASES)}
        self.misses, self.passes = False, 0

    @contextmanager
    def being(self, adapted: bool):
        self.misses = adapted
        yield

    def label_map(self, image: np.ndarray) -> np.ndarray:
        self.passes += 1
        number = self.of_image[image.tobytes()]
        found = truth(number).astype(np.int16)
        return np.where(found == 2, 1, found) if self.misses and number == 0 else found

    def networks(self, adapted: str = "a", source: str = "s") -> TwoNetworks:
        names = (adapted, source)
        return TwoNetworks(self, lambda: self.being(False), lambda: self.being(True), names, 9, 3)


@pytest.fixture
def setting(nnunet_folders):
    store = make_target(nnunet_folders, labelled=0, unlabelled=4).store
    said: list[str] = []
    certificate = PoolCertificate(nnunet_folders / "certificate.csv", store, LABELS, Ranks(), said.append)
    return certificate, TwoProphets(store), said


def test_the_bound_is_that_of_the_label_maps(setting):
    certificate, window, _ = setting
    found = certificate.measure(window.networks(), CASES[:2], 4)
    missed = np.count_nonzero(truth(0) == 2)
    expected = (1 + missed / np.count_nonzero(truth(0))) / 2  # the core is gone, and the oedema is larger by it
    assert found.distance == pytest.approx(expected) and found.bound == pytest.approx(expected / 2)
    assert (found.cases, found.pool, found.furthest) == (2, 4, "case_0")


def test_nothing_is_computed_twice_and_another_network_is_measured_anew(setting):
    certificate, window, _ = setting
    first = certificate.measure(window.networks(), CASES[:2], 4)
    assert window.passes == 4 and certificate.measure(window.networks(), CASES[:2], 4) == first
    assert window.passes == 4 and certificate.measure(window.networks(), CASES[1:], 3).cases == 3
    assert window.passes == 8  # one of the three was known
    certificate.measure(window.networks(adapted="b"), CASES[1:], 3)
    assert window.passes == 14 and set(pd.read_csv(certificate.file)["network"]) == {"b"}


def test_a_later_training_that_ends_with_the_same_weights_has_its_own_facts_in_the_table(setting):
    certificate, window, _ = setting
    certificate.measure(window.networks("s", "s"), CASES, 4)
    later = replace(window.networks("s", "s"), epoch=7, labelled=5)
    found = certificate.measure(later, CASES[:2], 3)
    table = read_certificate(certificate.file)
    assert certificate_of(table) == found and found.pool == 3
    assert table[["epoch", "labelled"]].drop_duplicates().to_numpy().tolist() == [[7, 5]]


def test_a_kill_costs_the_cases_of_one_write(setting, monkeypatch):
    certificate, window, _ = setting
    monkeypatch.setattr(pool_certificate, "CASES_AT_ONCE", 1)
    whole, label_map = certificate.measure(window.networks(), CASES, 4), window.label_map
    certificate.file.unlink()

    def killed(image):
        if window.passes >= 13:
            raise KeyboardInterrupt
        return label_map(image)

    window.label_map = killed
    with pytest.raises(KeyboardInterrupt):
        certificate.measure(window.networks(), CASES, 4)
    window.label_map = label_map
    assert pd.read_csv(certificate.file)["case"].unique().tolist() == CASES[:2]
    before = window.passes
    assert certificate.measure(window.networks(), CASES, 4) == whole
    assert window.passes == before + 4


def test_the_same_network_differs_by_nothing_and_is_not_run(setting):
    certificate, window, _ = setting
    assert certificate.measure(window.networks("s", "s"), CASES, 4).bound == 0
    assert window.passes == 0


def test_a_case_that_cannot_be_read_or_predicted_is_named_and_left_out(setting):
    certificate, window, said = setting
    certificate.store.image_file("case_1").write_bytes(b"nothing")
    window.of_image = {key: number for key, number in window.of_image.items() if number != 2}
    label_map = window.label_map

    def not_finite(image):
        if image.tobytes() not in window.of_image:
            raise ValueError("the network's output is not finite")
        return label_map(image)

    window.label_map = not_finite
    assert certificate.measure(window.networks(), CASES, 4).cases == 2
    assert len(said) == 2 and "case_1 is left out" in said[0] and "case_2 is left out" in said[1]


def test_without_an_unlabelled_case_there_is_no_certificate_and_no_old_one(setting):
    certificate, window, _ = setting
    certificate.measure(window.networks(), CASES, 4)
    assert certificate.measure(window.networks("b"), [], 0) is None and not certificate.file.exists()


def test_the_draw_is_the_seeds_and_a_label_that_comes_in_changes_no_other_place():
    cases = [f"{i:03d}" for i in range(50)]
    drawn = drawn_cases(cases, cases[10:], 12, seed=3)
    assert len(set(drawn)) == 12 and not set(drawn) & set(cases[:10])
    assert drawn == drawn_cases(cases, cases[10:], 12, seed=3) != drawn_cases(cases, cases[10:], 12, seed=4)
    later = drawn_cases(cases, [case for case in cases[10:] if case != drawn[0]], 12, seed=3)
    assert later[:11] == drawn[1:]
    assert drawn_cases(cases, cases[:3], 12, seed=3) == drawn_cases(cases, cases[:3], 3, seed=3)


def two_processes(rank: int, folder: Path) -> None:
    store = open_store(NAME, PLANS, "3d_fullres")
    window = TwoProphets(store)
    found = PoolCertificate(folder / "certificate.csv", store, LABELS, Ranks(), print).measure(
        window.networks(), CASES, 4
    )
    (folder / f"rank_{rank}").write_text(f"{found.bound:.9f} {window.passes}")


def test_two_processes_share_the_cases_and_agree(setting, tmp_path):
    certificate, window, _ = setting
    on_ranks(two_processes, tmp_path)
    alone = certificate.measure(window.networks(), CASES, 4)
    said = [(tmp_path / f"rank_{rank}").read_text() for rank in (0, 1)]
    assert said == [f"{alone.bound:.9f} 4"] * 2
    assert (tmp_path / "certificate.csv").read_text() == certificate.file.read_text()
