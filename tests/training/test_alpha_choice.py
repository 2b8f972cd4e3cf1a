"""The networks at several alpha, measured on cases."""

from __future__ import annotations

import pandas as pd
import pytest
from tiny_target import make_target
from tiny_training import campaign_of, interpolations_of, output_folder, start, trainer_of

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.training.alpha_choice import AlphaChoice, model_at
from nnunet_active.training.comparison_table import HELD_OUT
from nnunet_active.training.weights import copy_weights, interpolate


def test_every_row_is_of_the_network_at_its_alpha_and_the_training_stays_where_it_was(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2, fine_tuning={**recipe("held_out"), "compare": False})
    trainer = trainer_of(target)
    trainer.run_training()
    choice, adaptation = trainer.choice, trainer.adaptation
    trained, before = copy_weights(trainer.network), adaptation.interpolation
    choice.measure_alphas(2, sorted(campaign_of(target).val), HELD_OUT, (0.1, 0.9))
    rows = pd.read_csv(output_folder(target) / "comparison.csv", dtype={"case": str})
    for alpha in (0.1, 0.9):
        (network,) = rows[rows["model"] == model_at(alpha)]["network"].unique()
        assert network == weights_digest(interpolate(adaptation.source, trained, alpha))
    assert adaptation.interpolation == before
    assert weights_digest(copy_weights(trainer.network)) == weights_digest(trained)


def test_a_choice_that_is_made_twice_at_one_epoch_is_told_once(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, fine_tuning=recipe("guarded"))
    trainer = trainer_of(target)
    trainer.initialize()
    capsys.readouterr()
    for epoch, chosen in ((1, 0.5), (1, 0.5), (1, 0.75), (2, 0.75)):
        trainer.choice.note(epoch, f"So it is {chosen} at {epoch}.", chosen=chosen)
    said = capsys.readouterr().out
    assert [said.count(f"So it is {text}.") for text in ("0.5 at 1", "0.75 at 1", "0.75 at 2")] == [1, 1, 1]
    assert [entry["chosen"] for entry in interpolations_of(target)] == [0.5, 0.75, 0.75]
    assert trainer.choice.latest == {"chosen": 0.75}


def test_a_choice_has_to_say_how_it_chooses():
    with pytest.raises(NotImplementedError):
        AlphaChoice(None, None, None, None).choose(1)
