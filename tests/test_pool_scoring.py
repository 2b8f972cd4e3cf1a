from __future__ import annotations

import numpy as np
import pytest
import tiny_source
import torch
from tiny_target import make_target

from nnunet_active.inference import SlidingWindow
from nnunet_active.pool_scoring import density_of_cases, score_cases
from nnunet_active.scoring import density
from nnunet_active.scoring.statistics import score_logits


@pytest.fixture
def scored(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    source = tiny_source.source_model()
    network = tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json)
    window = SlidingWindow(network, source.plans, "3d_fullres", source.dataset_json, torch.device("cpu"))
    return target, window


def test_every_case_gets_a_row_whose_numbers_are_those_of_its_own_pass(scored):
    target, window = scored
    pool = score_cases(window, target.store, ["case_3", "case_0"], progress=False)
    assert list(pool.table.index) == ["case_0", "case_3"]
    alone = score_logits(window.logits(target.store.load_image("case_3")), 1.5**3)
    assert pool.table.loc["case_3"].to_dict() == pytest.approx(alone.scalars, nan_ok=True)
    assert pool.arrays["embedding"].shape == (2, 8)
    assert pool.problems == {}


def test_a_case_that_cannot_be_read_is_named_and_the_rest_goes_on(scored):
    target, window = scored
    (target.store.pool_folder / "case_2.b2nd").write_bytes(b"not an image")
    pool = score_cases(window, target.store, ["case_1", "case_2", "case_3"], progress=False)
    assert list(pool.table.index) == ["case_1", "case_3"]
    assert "case_2" in pool.problems["case_2"]


def test_a_withheld_label_is_never_opened_while_scoring(scored):
    target, window = scored
    poison = target.store.folder / "case_0_seg.b2nd"
    before = score_cases(window, target.store, ["case_0"], progress=False)
    poison.write_bytes(b"poison")
    after = score_cases(window, target.store, ["case_0"], progress=False)
    assert before.table.equals(after.table)


def test_density_is_computed_once_per_image_and_follows_a_changed_image(scored, tmp_path):
    target, _ = scored
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
