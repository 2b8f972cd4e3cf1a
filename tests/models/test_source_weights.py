from __future__ import annotations

import pytest
import tiny_source

from nnunet_active.models.source_model import save_source_model, source_folder
from nnunet_active.models.source_weights import find_source
from nnunet_active.util.errors import MissingInput


def test_the_network_kept_beside_the_plans_comes_first(tmp_path):
    kept, own = tiny_source.source_model(seed=1), tiny_source.source_model(seed=2)
    save_source_model(kept, source_folder(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres"))
    tiny_source.write_trained(own, tmp_path / "results" / "Dataset009_A" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    found = find_source(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres", "0", tmp_path / "results")
    assert all((found.weights[key] == value).all() for key, value in kept.weights.items())


def test_else_the_users_own_stock_training_of_that_fold_is_taken(tmp_path):
    own = tmp_path / "results" / "Dataset009_A" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    tiny_source.write_trained(tiny_source.source_model(seed=1), own, fold="0")
    tiny_source.write_trained(tiny_source.source_model(seed=2), own, fold="1")
    found = find_source(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres", "1", tmp_path / "results")
    assert found.fold == "1"


def test_a_missing_source_names_the_commands_that_give_one(tmp_path):
    with pytest.raises(MissingInput, match=r"nnunet_active plan -d Dataset009_A .* nnunet_active init"):
        find_source(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres", "0", tmp_path)
