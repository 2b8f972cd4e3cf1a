from __future__ import annotations

import json
import os

import pandas as pd
import pytest
import torch
from tiny_target import make_target
from tiny_training import campaign_of, output_folder, run_with_kill, start, trainer_of

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.training.comparison_table import KEPT_SOURCE
from nnunet_active.training.source_comparison import Comparison
from nnunet_active.training.source_watch import judging


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """How many sliding-window passes are made in all."""
    made: list[int] = []
    original = SlidingWindow.stream

    def stream(self, *what, **how):
        made.append(1)
        return original(self, *what, **how)

    monkeypatch.setattr(SlidingWindow, "stream", stream)
    return made


def comparison_of(target, fold=0) -> pd.DataFrame:
    return pd.read_csv(output_folder(target, fold=fold) / "comparison.csv", dtype={"case": str})


def test_held_out_cases_are_compared_after_each_round_and_at_the_end(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target)
    trainer_of(target).run_training()
    table, val = comparison_of(target), set(campaign_of(target).val)
    assert set(table["case"]) == val and set(table["kind"]) == {"held_out"}
    adapted = table[table["model"] == "adapted"]
    rounds = adapted.drop_duplicates(["round", "epoch", "labelled"])[["round", "epoch", "labelled"]]
    assert rounds.to_numpy().tolist() == [[1, 1, 1], [2, 3, 2]]
    assert adapted["network"].nunique() == 2 and table[table["model"] == "source"]["network"].nunique() == 1
    assert len(table) == 3 * 2 * len(val)
    assert capsys.readouterr().out.count("Source against adapted network on 2 held-out cases") == 2
    log = [json.loads(line) for line in (output_folder(target) / "active_log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log if entry["event"] == "comparison"] == [1, 3]


def test_the_source_network_is_run_once_on_a_held_out_case_and_a_second_look_costs_nothing(nnunet_folders, passes):
    target = make_target(nnunet_folders)
    start(target, strategy="random", epochs=2)
    trainer = trainer_of(target)
    trainer.initialize()
    watch, val = trainer.watch, len(campaign_of(target).val)
    watch.after_round(2)
    assert len(passes) == val  # nothing was trained yet: the adapted network is the source network, and that is known
    with torch.no_grad():
        next(trainer.network.parameters()).add_(0.1)
    watch.after_round(2)
    assert len(passes) == 2 * val
    comparison = trainer.watch.comparison
    comparison.table = Comparison(
        comparison.file, comparison.store, comparison.labels
    ).table  # as another process finds it
    watch.after_round(2)
    assert len(passes) == 2 * val


def test_where_none_is_held_out_each_case_is_compared_before_it_is_trained_on(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, fold="all", budget=3, epochs=4)
    trainer_of(target, fold="all").run_training()
    table, requested = comparison_of(target, "all"), campaign_of(target, "all").requested()
    assert set(table["kind"]) == {"prequential"}
    assert set(table["case"]) == set(requested[1:])  # before the first label both networks are the same
    adapted = table[table["model"] == "adapted"].drop_duplicates("case").set_index("case")
    assert adapted.loc[requested[1], ["epoch", "labelled"]].tolist() == [1, 1]
    assert adapted.loc[requested[2], ["epoch", "labelled"]].tolist() == [2, 2]
    assert "2 cases before they were trained on" in capsys.readouterr().out


def test_where_nothing_can_be_compared_the_user_is_told_that_it_is_not_known(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, fold="all", one_off=True, epochs=1)
    trainer_of(target, fold="all").run_training()
    assert "WARNING: this network was not compared with the source network" in capsys.readouterr().out
    assert not (output_folder(target, fold="all") / "comparison.csv").exists()


def test_where_the_labels_showed_no_gain_the_log_says_that_the_source_predicts_and_warns_of_nothing(
    nnunet_folders, capsys
):
    target = make_target(nnunet_folders, labelled=3, unlabelled=4)
    start(target, fold="all", oracle="folder", strategy="random", budget=1, stride=9, epochs=2)
    trainer = trainer_of(target, fold="all")
    trainer.initialize()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.zero_()
    trainer.adaptation.interpolation = 0.0
    capsys.readouterr()
    trainer.watch.end(2)
    said = capsys.readouterr().out
    assert KEPT_SOURCE in said and "WARNING" not in said and "can differ" not in said
    assert (pd.read_csv(output_folder(target, fold="all") / "certificate.csv")["distance"] == 0).all()


def test_a_network_that_unlearnt_is_called_worse(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trainer = trainer_of(target)
    trainer.initialize()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.zero_()  # all classes alike: nothing but background is predicted
    trainer.watch.end(2)
    shown = capsys.readouterr().out
    assert "-> 0.0000" in shown
    assert "WARNING: on these cases the adapted network is worse than the source network" in shown


def test_a_kill_leaves_the_same_comparison(tmp_path, monkeypatch):
    from tiny_training import fresh_target

    tables = []
    for kill in (None, 1, 2):
        target = fresh_target(tmp_path / str(kill), monkeypatch)
        start(target, fine_tuning={"ema_epochs": 2.0})
        run_with_kill(target, kill)
        keys = ["model", "round", "epoch", "case", "label"]
        tables.append(comparison_of(target).sort_values(keys).reset_index(drop=True))
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0])


def test_no_withheld_label_is_opened(nnunet_folders):
    """Labels that nobody has revealed are made unreadable; training and comparison do not notice."""
    target = make_target(nnunet_folders)
    campaign = start(target, budget=1, epochs=2)
    trainer = trainer_of(target)
    trainer.initialize()
    original = trainer.session.take_up_labels

    def take_up(epoch):
        waiting = original(epoch)
        open_to_see = {*campaign_of(target).labelled(), *campaign.val}
        for file in target.store.folder.glob("*_seg.b2nd"):
            if file.name.removesuffix("_seg.b2nd") not in open_to_see:
                file.write_bytes(b"nothing")
        return waiting

    trainer.session.take_up_labels = take_up
    trainer.run_training()
    assert set(comparison_of(target)["case"]) == set(campaign.val)


def test_compare_off_compares_nothing(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2, fine_tuning={"compare": False})
    trainer_of(target).run_training()
    assert not (output_folder(target) / "comparison.csv").exists()
    assert not (output_folder(target) / "certificate.csv").exists()


def test_labels_that_came_in_between_two_trainings_are_compared_before_the_second(nnunet_folders, capsys, monkeypatch):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    start(target, fold="all", budget=1, query_size=1, oracle="folder", strategy="random", stride=9, epochs=10)
    monkeypatch.setattr(Campaign, "query_due", lambda campaign, epoch: False)  # a training on what is labelled
    trainer = trainer_of(target, fold="all")
    trainer.num_epochs = 1
    trainer.run_training()
    target.label("case_3", 3)
    target.preprocess()
    again = trainer_of(target, fold="all")
    again.num_epochs = 1
    again.run_training()
    table = comparison_of(target, "all")
    assert set(table["case"]) == {"case_3"} and set(table["kind"]) == {"prequential"}
    assert table[table["model"] == "adapted"]["labelled"].unique().tolist() == [2]
    assert "1 case before it was trained on" in capsys.readouterr().out


def test_a_training_that_kept_the_source_is_not_compared_with_it_on_the_labels_that_come_in_next(
    nnunet_folders, capsys, monkeypatch
):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    settings = {"fine_tuning": {"interpolation": 0.5}, "stride": 9, "epochs": 10}
    start(target, fold="all", budget=1, query_size=1, oracle="folder", strategy="random", **settings)
    monkeypatch.setattr(Campaign, "query_due", lambda campaign, epoch: False)  # a training on what is labelled
    for alpha in (0.0, 0.5):
        trainer = trainer_of(target, fold="all")
        trainer.num_epochs = 1
        trainer.initialize()
        trainer.adaptation.interpolation = alpha
        trainer.run_training()
        target.label("case_3", 3)
        target.preprocess()
    said = capsys.readouterr().out
    assert set(comparison_of(target, "all")["case"]) == {"case_3"} and "Source against adapted network" not in said
    assert "no label came in that an adapted network had not seen" in said


def test_a_label_that_nobody_asked_for_is_compared_before_it_is_trained_on(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=0, unlabelled=4)
    start(target, fold="all", strategy="random", budget=1, epochs=3)
    with pytest.raises(SystemExit):
        trainer_of(target, fold="all").run_training()
    (asked,) = campaign_of(target, "all").waiting()
    unasked = "case_0" if asked != "case_0" else "case_1"
    target.label(asked)
    trainer = trainer_of(target, fold="all", resume=True)
    original = trainer.on_epoch_start

    def somebody_labels_one_more() -> None:
        if trainer.current_epoch == 2:
            target.label(unasked)
            target.preprocess()
        original()

    trainer.on_epoch_start = somebody_labels_one_more
    trainer.run_training()
    campaign = campaign_of(target, "all")
    assert [campaign.labelled(epoch) for epoch in (1, 2, None)] == [[asked], *[sorted([asked, unasked])] * 2]
    table = comparison_of(target, "all")
    assert set(table["case"]) == {unasked} and set(table["kind"]) == {"prequential"}
    adapted = table[table["model"] == "adapted"].iloc[0]
    assert adapted[["epoch", "labelled"]].tolist() == [2, 1]
    assert "1 case before it was trained on" in capsys.readouterr().out


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, trace) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("kind", ["foreign", "damaged"])
def test_a_checkpoint_of_somebody_else_is_named_and_its_code_never_runs(nnunet_folders, capsys, kind):
    target = make_target(nnunet_folders)
    start(target, fold="all", budget=2, epochs=2)
    folder, trace = output_folder(target, fold="all"), nnunet_folders / "ran"
    folder.mkdir(parents=True)
    file = folder / "checkpoint_final.pth"
    if kind == "foreign":
        torch.save({"network_weights": {}, "nnunet_active": {"labelled": []}, "payload": Payload(trace)}, file)
    else:
        file.write_bytes(b"PK\x03\x04 damaged")
    trainer_of(target, fold="all").run_training()
    said = capsys.readouterr().out
    assert "the training before is not compared with the source network" in said and "checkpoint_final.pth" in said
    assert not trace.exists() and (folder / "checkpoint_final.pth").is_file()


def test_a_training_does_not_go_on_with_a_checkpoint_that_runs_code(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target)
    folder, trace = output_folder(target), nnunet_folders / "ran"
    folder.mkdir(parents=True)
    torch.save({"network_weights": {}, "payload": Payload(trace)}, folder / "checkpoint_latest.pth")
    with pytest.raises(SystemExit) as end:
        trainer_of(target, resume=True)
    assert end.value.code == 2 and not trace.exists()
    assert "was not written by a training of this package" in capsys.readouterr().out


def test_a_label_that_is_the_accepted_prediction_judges_no_network(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, fold="all", budget=3, epochs=4)
    trainer = trainer_of(target, fold="all")
    trainer.initialize()
    accepted, edited, never_handed_out = target.store.identifiers()[:3]
    trainer.session.campaign.record_label(accepted, {"changed_voxels": 0})
    trainer.session.campaign.record_label(edited, {"changed_voxels": 7})
    assert judging(trainer.session, [accepted, edited, never_handed_out]) == [edited, never_handed_out]


def test_a_training_ends_with_what_it_can_have_changed_on_unlabelled_cases(nnunet_folders, capsys, passes):
    target = make_target(nnunet_folders, labelled=3, unlabelled=4)
    start(target, oracle="folder", strategy="random", budget=1, stride=9, epochs=2)
    trainer = trainer_of(target)
    trainer.initialize()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.zero_()
    trainer.watch.end(2)
    made = len(passes)
    table = pd.read_csv(output_folder(target) / "certificate.csv", dtype={"case": str})
    assert table["case"].nunique() == 2 and table["pool"].unique().tolist() == [4]  # two epochs pay for two cases
    assert set(table["case"]) <= set(trainer.session.unlabelled(2)) and table["distance"].max() > 0
    assert "On 2 of 4 unlabelled cases, the adapted model's mean IoU can differ" in capsys.readouterr().out
    trainer.watch.end(2)
    assert len(passes) == made
    event = json.loads((output_folder(target) / "active_log.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "certificate" and event["bound"] == pytest.approx(
        table.groupby("case")["distance"].mean().mean()
    )


def test_a_kill_before_the_certificate_is_made_up_for(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3, unlabelled=4)
    start(target, oracle="folder", strategy="random", budget=1, stride=9, epochs=1)
    file = output_folder(target) / "certificate.csv"
    trainer = trainer_of(target)
    with pytest.raises(SystemExit):
        trainer.run_training()  # waits for the label that it asked for
    target.label(campaign_of(target).waiting()[0])
    trainer_of(target, resume=True).run_training()
    made = file.read_text()
    file.unlink()
    trainer_of(target, resume=True).run_training()
    assert file.read_text() == made
