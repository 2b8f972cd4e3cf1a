from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_rounds import copy_of, make_once, start, trained

from nnunet_active.nnunet.nnunet_paths import results_root
from nnunet_active.rounds.asking_model import FoundModel, make_window
from nnunet_active.rounds.trained_models import trainings_of
from nnunet_active.rounds.unseen_dice import recorded_dice, unseen_dice
from nnunet_active.training.comparison_table import ADAPTED, COLUMNS, CROSS_FIT, HELD_OUT, PREQUENTIAL, SOURCE
from nnunet_active.workspace import Workspace


def rows_of(*rows: tuple) -> pd.DataFrame:
    """kind, epoch, model, case, dice."""
    return pd.DataFrame(
        [(kind, epoch, epoch, 1, model, model, case, "r", "tumour", dice) for kind, epoch, model, case, dice in rows],
        columns=COLUMNS,
    )


def test_a_case_counts_once_held_out_before_prequential_before_cross_fit():
    table = rows_of(
        (CROSS_FIT, 1, SOURCE, "a", 0.1),
        (CROSS_FIT, 1, "alpha 0.75", "a", 0.2),
        (CROSS_FIT, 1, SOURCE, "b", 0.3),
        (CROSS_FIT, 1, "alpha 0.75", "b", 0.4),
        (CROSS_FIT, 1, "alpha 0.25", "b", 0.9),
        (PREQUENTIAL, 2, SOURCE, "a", 0.5),
        (PREQUENTIAL, 2, ADAPTED, "a", 0.6),
        (HELD_OUT, 0, SOURCE, "h", 0.7),
        (HELD_OUT, 2, ADAPTED, "h", 0.1),
        (HELD_OUT, 4, ADAPTED, "h", 0.8),
    )
    found = recorded_dice(table, 0.75).droplevel("label")
    assert found.loc["a"].tolist() == [0.5, 0.6]
    assert found.loc["b"].tolist() == [0.3, 0.4]
    assert found.loc["h"].tolist() == [0.7, 0.8]


def test_where_the_source_itself_predicts_its_own_rows_count_and_without_rows_nothing_is_known():
    table = rows_of((PREQUENTIAL, 1, SOURCE, "a", 0.5), (PREQUENTIAL, 1, "alpha 0.5", "a", 0.6))
    assert recorded_dice(table, 0).iloc[0].tolist() == [0.5, 0.5]
    assert recorded_dice(table, 1).empty and recorded_dice(rows_of(), 0.5).empty


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("made"), labelled=3, unlabelled=1)


def test_what_a_training_has_not_seen_is_measured_now_and_only_once(made, nnunet_folders):
    target, campaign = copy_of(made, nnunet_folders), start()
    trained(target, labelled=["case_0"], seed=11)
    workspace = Workspace.of(campaign)
    training = trainings_of(campaign, results_root())[0]
    model = workspace.model(training.model_folder, training.fold, training.checkpoint.name)
    source, network = (
        make_window(FoundModel((one,), "own"), workspace, torch.device("cpu")) for one in (workspace.source, model)
    )
    found = unseen_dice(workspace, training, network, source)
    assert list(found.network.index) == list(found.source.index) == ["case_1", "case_2"]
    assert found.by_itself == {"case_1", "case_2"}
    assert not np.allclose(found.network, found.source) and np.isfinite(found.gains).all()
    network.label_map = source.label_map = None  # nobody asks again
    again = unseen_dice(workspace, training, network, source)
    pd.testing.assert_frame_equal(again.network, found.network)
