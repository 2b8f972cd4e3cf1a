from __future__ import annotations

import pytest
import tiny_source
from tiny_rounds import request
from tiny_target import PLANS, make_target
from tiny_training import campaign_of, checkpoint_of, output_folder, start, trainer_of

from nnunet_active.campaign.campaign_start import set_aside
from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.cli.main import main
from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.source_model import source_folder
from nnunet_active.training.stopping import StoppingMixin
from nnunet_active.util.errors import CampaignError, EmptyPool
from nnunet_active.util.log import silent


class Stock:
    """What the stock trainer says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def print_to_log_file(self, text: str, *more: str, add_timestamp: bool = True) -> None:
        self.said.append(text.strip())


class Trainer(StoppingMixin, Stock):
    """As much of a trainer as it takes."""

    session = None


@pytest.mark.parametrize(("error", "code"), [(CampaignError("In use."), 2), (EmptyPool("Nobody is left."), 0)])
def test_a_users_mistake_is_one_sentence_and_an_exit_code(error, code):
    trainer = Trainer()
    with pytest.raises(SystemExit) as stop, trainer.one_sentence():
        raise error
    assert stop.value.code == code
    assert trainer.said == [str(error)]


def test_what_nobody_foresaw_is_one_sentence_too_and_another_exit_code():
    trainer = Trainer()
    with pytest.raises(SystemExit) as stop, trainer.one_sentence():
        raise ZeroDivisionError
    assert stop.value.code == 1 and len(trainer.said) == 1 and "ZeroDivisionError" in trainer.said[0]


def test_a_character_that_the_log_cannot_hold_is_replaced(monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda do_setlocale: "ascii")
    trainer = Trainer()
    trainer.print_to_log_file("Ödem", 1, add_timestamp=False)
    assert trainer.said == ["?dem"]


def stopped_before_epoch_0(nnunet_folders, **settings):
    target = make_target(nnunet_folders, labelled=0, unlabelled=4)
    start(target, strategy="random", **settings)
    with pytest.raises(SystemExit) as stop:
        trainer_of(target).run_training()
    assert stop.value.code == 0
    return target


def test_after_the_stop_annotate_hands_over_and_next_goes_on_to_the_label(nnunet_folders, capsys):
    target = stopped_before_epoch_0(nnunet_folders)
    (case,) = campaign_of(target).waiting()
    capsys.readouterr()
    assert main(["annotate", "-d", "902", "-device", "cpu"]) == 0
    assert list((target.raw / "annotate").rglob(f"{case}.nii.gz"))
    assert capsys.readouterr().out.endswith("then: nnunet_active ingest -d 902\n")


def ended(nnunet_folders):
    target = stopped_before_epoch_0(nnunet_folders, budget=1, epochs=1)
    target.label(campaign_of(target).waiting()[0])
    trainer_of(target, resume=True).run_training()
    return target


def test_to_continue_a_training_that_has_ended_says_so_and_changes_nothing(nnunet_folders, capsys):
    target = ended(nnunet_folders)
    final = output_folder(target) / "checkpoint_final.pth"
    content = final.read_bytes()
    (output_folder(target) / "checkpoint_latest.pth").write_bytes(b"a kill came before its removal")
    capsys.readouterr()
    trainer = trainer_of(target, resume=True)
    trainer.run_training()
    said = capsys.readouterr().out
    assert "This training has ended: 1 of 1 epochs are done" in said and "labelled since" not in said
    trainer.perform_actual_validation()
    assert final.read_bytes() == content
    assert [file.name for file in output_folder(target).glob("*.pth")] in (
        ["checkpoint_best.pth", "checkpoint_final.pth"],
        ["checkpoint_final.pth", "checkpoint_best.pth"],
    )


def test_a_training_does_not_go_on_with_the_network_of_the_campaign_before(nnunet_folders, capsys):
    target = stopped_before_epoch_0(nnunet_folders)
    set_aside(campaign_of(target).folder, silent)  # as init --restart does
    start(target, strategy="random")
    capsys.readouterr()
    trainer = trainer_of(target, resume=True)
    with pytest.raises(SystemExit) as stop:
        trainer.run_training()
    assert stop.value.code == 2 and "was trained in an earlier campaign" in capsys.readouterr().out
    assert not campaign_of(target).rounds
    with pytest.raises(SystemExit) as stop:
        trainer_of(target).run_training()
    assert stop.value.code == 0 and len(campaign_of(target).rounds) == 1


def test_a_training_that_ended_in_the_campaign_before_is_not_gone_on_with_and_may_be_validated(nnunet_folders, capsys):
    target = ended(nnunet_folders)
    set_aside(campaign_of(target).folder, silent)
    start(target, strategy="random")
    trainer = trainer_of(target, resume=True)
    with pytest.raises(SystemExit) as stop:
        trainer.run_training()
    assert stop.value.code == 2 and "was trained in an earlier campaign" in capsys.readouterr().out
    trainer_of(target, resume=True).perform_actual_validation()  # as --val does, on the labels that are there
    assert (output_folder(target) / "validation" / "summary.json").is_file()


@pytest.mark.parametrize(("recipe_name", "refused"), [("three_quarters", True), ("plain", False)])
def test_what_lies_between_another_source_network_and_the_trained_one_is_refused(
    nnunet_folders, capsys, recipe_name, refused
):
    target = stopped_before_epoch_0(nnunet_folders, fine_tuning=recipe(recipe_name))
    kept = source_folder(target.preprocessed, PLANS, target.configuration)
    other = tiny_source.source_model(seed=9)
    save_source_model(other, kept)
    capsys.readouterr()
    if refused:
        with pytest.raises(SystemExit) as stop:
            trainer_of(target, resume=True)
        assert stop.value.code == 2 and "from another source network" in capsys.readouterr().out
    else:  # the trained weights alone predict
        assert trainer_of(target, resume=True).current_epoch == 0


def test_a_label_that_came_after_the_end_is_named_with_the_way_to_train_on_it(nnunet_folders, capsys):
    target = ended(nnunet_folders)
    new = next(f"case_{i}" for i in range(4) if f"case_{i}" not in campaign_of(target).requested())
    target.label(new)
    target.preprocess()
    capsys.readouterr()
    trainer_of(target, resume=True).run_training()
    assert f"not trained on: {new}. A new training takes them: the same command without --c." in capsys.readouterr().out
    assert new not in checkpoint_of(target)["nnunet_active"]["labelled"]
    trainer_of(target).run_training()
    assert new in checkpoint_of(target)["nnunet_active"]["labelled"]


def said_of_damaged_files(target, trainer, capsys, names) -> str:
    """What a training says that ends because some of its preprocessed files are cut short once an epoch has begun."""
    on_train_epoch_start = trainer.on_train_epoch_start

    def damage() -> None:
        on_train_epoch_start()
        for name in names():
            file = target.store.folder / f"{name}.b2nd"
            file.write_bytes(file.read_bytes()[:-40])

    trainer.on_train_epoch_start = damage
    with pytest.raises(SystemExit) as stop:
        trainer.run_training()
    assert stop.value.code == 2
    return capsys.readouterr().out


@pytest.mark.parametrize("what", ["", "_seg"])
def test_a_damaged_file_that_the_loader_finds_first_is_named_in_place_of_its_traceback(nnunet_folders, capsys, what):
    target = make_target(nnunet_folders)
    start(target, strategy="random", fine_tuning={"compare": False})
    trainer = trainer_of(target)
    said = said_of_damaged_files(target, trainer, capsys, lambda: [f"{case}{what}" for case in trainer.do_split()[0]])
    assert "cannot be read" in said and "run nnunet_active preprocess again." in said and "Traceback" not in said


def test_a_damaged_image_of_the_unlabelled_pool_is_named_in_place_of_the_loaders_traceback(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=5)
    start(target, strategy="random", fine_tuning={"compare": False, "unlabelled": "mix"})
    trainer = trainer_of(target)
    said = said_of_damaged_files(target, trainer, capsys, lambda: trainer.mixing.cases)
    assert f"{trainer.mixing.cases[0]}" in said and "cannot be read" in said and "Traceback" not in said


def test_a_stop_before_the_first_checkpoint_does_not_point_to_that_of_an_earlier_training(nnunet_folders, capsys):
    target = ended(nnunet_folders)
    final = (output_folder(target) / "checkpoint_final.pth").read_bytes()
    campaign = campaign_of(target)
    new = next(f"case_{i}" for i in range(4) if f"case_{i}" not in campaign.requested())
    request(campaign, new)  # as select does
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        trainer_of(target).run_training()
    said = capsys.readouterr().out
    assert stop.value.code == 0 and f"Please label: {new}" in said
    command = said.split("Then train with\n")[1].splitlines()[0].split()
    assert command[0] == "nnUNetv2_train" and "--c" not in command
    assert (output_folder(target) / "checkpoint_final.pth").read_bytes() == final
    target.label(new)
    trainer_of(target).run_training()
    assert new in checkpoint_of(target)["nnunet_active"]["labelled"]


def test_a_stop_after_a_checkpoint_points_to_it_also_when_the_training_goes_on_and_stops_again(nnunet_folders, capsys):
    target = stopped_before_epoch_0(nnunet_folders)
    with pytest.raises(SystemExit):
        trainer_of(target, resume=True).run_training()
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "nnUNetv2_train" in line] == [
        "--c"
    ] * 2
