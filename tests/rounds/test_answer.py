from __future__ import annotations

import json
import os
from datetime import datetime

import pandas as pd
import pytest
from tiny_rounds import start, trained

from nnunet_active.cli.main import main
from nnunet_active.rounds.answer import answers_of, newest_answer, newest_certificate
from nnunet_active.rounds.trained_models import trainings_of
from nnunet_active.training.certificate_table import CERTIFICATE_COLUMNS
from nnunet_active.training.comparison_table import (
    ADAPTED,
    COLUMNS,
    HELD_OUT,
    KEPT_SOURCE,
    PREQUENTIAL,
    SOURCE,
    note_campaign,
)
from nnunet_active.util.moments import seconds_of


def table(kind: str, dice: dict[str, tuple[float, float]], number: int = 1, epoch: int = 9) -> pd.DataFrame:
    """One label; case -> Dice of the source and of the adapted network."""
    rows = []
    for case, (source, adapted) in dice.items():
        rows.append((kind, 0, 0, 0, SOURCE, "s", case, "r", "core", source))
        rows.append((kind, number, epoch, 3, ADAPTED, f"a{epoch}", case, "r", "core", adapted))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def campaign(target):
    return start()


def measure(target, campaign, *tables: pd.DataFrame, **how) -> None:
    checkpoint = trained(target, labelled=campaign.labelled(), **how)
    pd.concat(tables).to_csv(checkpoint.parent / "comparison.csv", index=False)


def sentence(target, campaign, *tables) -> str:
    measure(target, campaign, *tables)
    (answer,) = answers_of(trainings_of(campaign, target.results), campaign)
    return f"{answer.sentence} {answer.advice}".strip()


def test_a_better_model_is_called_better_in_one_sentence(target, campaign):
    better = {f"v{i}": (0.80 + i / 100, 0.86 + i / 90) for i in range(4)}
    assert sentence(target, campaign, table(HELD_OUT, better)) == (
        "On 4 cases it had not seen, the adapted model went from a mean Dice of 0.815 to 0.877 and was worse in none."
    )


def test_a_worse_model_comes_with_what_to_do(target, campaign):
    said = sentence(target, campaign, table(HELD_OUT, {"a": (0.9, 0.7), "b": (0.8, 0.81), "c": (0.9, 0.8)}))
    assert (
        "the adapted model fell from a mean Dice of 0.867 to 0.770 and was worse in 2 of them. Keep the source" in said
    )


def test_a_gain_on_two_cases_may_be_chance_and_the_same_model_stays_where_it_was(target, campaign):
    assert "may be chance" in sentence(target, campaign, table(HELD_OUT, {"a": (0.5, 0.6), "b": (0.5, 0.7)}))
    assert "stayed at a mean Dice of 0.500 and" in sentence(target, campaign, table(HELD_OUT, {"a": (0.5, 0.5)}))


def test_after_several_rounds_the_last_one_counts(target, campaign):
    early, late = table(HELD_OUT, {"a": (0.5, 0.1)}, 1, 9), table(HELD_OUT, {"a": (0.5, 0.9)}, 2, 20)
    assert "to 0.900" in sentence(target, campaign, early, late[late["model"] == ADAPTED])


def test_where_nothing_is_held_out_new_labels_judge_before_they_are_trained_on(target, campaign):
    said = sentence(target, campaign, table(PREQUENTIAL, {"a": (0.5, 0.6), "b": (0.5, 0.6), "c": (0.4, 0.6)}))
    assert said.startswith("On 3 cases it had not seen when their labels came in, the adapted model went from")


def test_labels_and_cases_are_listed_and_a_training_of_an_earlier_campaign_says_nothing(target, campaign):
    measure(target, campaign, table(HELD_OUT, {"a": (0.5, 0.9)}))
    (answer,) = answers_of(trainings_of(campaign, target.results), campaign)
    assert answer.labels.loc["core", "adapted"] == 0.9 and list(answer.cases.index) == ["a"]
    measure(target, campaign, table(HELD_OUT, {"a": (0.5, 0.9)}))
    trained(target, labelled=["a_case_that_this_campaign_never_knew"])
    assert answers_of(trainings_of(campaign, target.results), campaign) == []


def test_what_was_measured_before_init_restart_or_with_another_source_or_before_a_correction_is_not_told(
    target, campaign
):
    other = table(PREQUENTIAL, {"a": (0.1, 0.9)}).replace("s", "another source")
    rows = {"case_1": (0.5, 0.6), "case_2": (0.5, 0.6), "case_3": (0.4, 0.6)}
    assert sentence(target, campaign, other, table(PREQUENTIAL, rows)).startswith("On 3 cases")
    trainings = trainings_of(campaign, target.results)
    facts = {"corrections": 1, "time": datetime.fromtimestamp(trainings[0].saved + 60).isoformat(timespec="seconds")}
    campaign.record_label("case_2", facts)
    assert answers_of(trainings, campaign)[0].sentence.startswith("On 2 cases")
    folder = trainings[0].checkpoint.parent
    note_campaign(folder, "2026-01-01T00:00:00+00:00")
    assert answers_of(trainings, campaign) == []
    note_campaign(folder, campaign.begun)
    assert len(answers_of(trainings, campaign)) == 1
    certify(target, campaign, 0.25)
    os.utime(folder / "certificate.csv", (time := seconds_of(campaign.begun) - 60, time))
    assert newest_certificate(trainings, campaign) == ""


@pytest.mark.parametrize("content", ["", "case,dice\n", "\x00\x01"])
def test_a_comparison_that_cannot_be_read_is_no_answer(target, campaign, content):
    (trained(target, labelled=campaign.labelled()).parent / "comparison.csv").write_text(content)
    assert answers_of(trainings_of(campaign, target.results), campaign) == []


def test_next_and_status_begin_with_it(target, campaign, capsys):
    assert newest_answer(trainings_of(campaign, target.results), campaign) == ""
    measure(target, campaign, table(HELD_OUT, {f"v{i}": (0.80 + i / 100, 0.86 + i / 90) for i in range(4)}))
    said = (
        "On 4 cases it had not seen, the adapted model went from a mean Dice of 0.815 to 0.877 and was worse in none."
    )
    assert newest_answer(trainings_of(campaign, target.results), campaign) == said
    for command in ("next", "status"):
        assert main([command, "-d", "902"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == said
        assert main([command, "-d", "902", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["answer"] == said


def certify(target, campaign, distance: float, **how) -> None:
    folder = trained(target, labelled=campaign.labelled(), **how).parent
    rows = [("a", "s", 9, 1, 5, case, "core", distance) for case in ("x", "y")]
    pd.DataFrame(rows, columns=CERTIFICATE_COLUMNS).to_csv(folder / "certificate.csv", index=False)


def test_status_says_by_how_much_the_unlabelled_cases_can_differ(target, campaign, capsys):
    assert newest_certificate(trainings_of(campaign, target.results), campaign) == ""
    certify(target, campaign, 0.25)
    said = newest_certificate(trainings_of(campaign, target.results), campaign)
    assert said.startswith("On 2 of 5 unlabelled cases") and "at most 0.250" in said
    assert main(["status", "-d", "902"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [said, ""]
    assert main(["status", "-d", "902", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"] == said


@pytest.mark.parametrize("measured", [[], [table(PREQUENTIAL, {"a": (0.8, 0.7)})]])
def test_a_training_that_kept_the_source_says_so_whatever_was_measured_before(target, campaign, capsys, measured):
    certify(target, campaign, 0.0, alpha=0.0)
    for one in measured:
        measure(target, campaign, one, alpha=0.0)
    for command in ("next", "status"):
        assert main([command, "-d", "902"]) == 0
        assert capsys.readouterr().out.splitlines()[:2] == [KEPT_SOURCE, ""]
    trained(target, labelled=campaign.labelled(), alpha=0.25)
    assert newest_certificate(trainings_of(campaign, target.results), campaign) != ""
    early = seconds_of(campaign.begun) - 60  # of a campaign before, perhaps with another source
    trained(target, labelled=campaign.labelled(), alpha=0.0, saved=early)
    (training,) = trainings_of(campaign, target.results)
    assert training.is_source and KEPT_SOURCE not in newest_answer([training], campaign)


def test_new_labels_that_judged_the_source_itself_tell_nothing_of_the_model_of_now(target, campaign):
    kept = table(PREQUENTIAL, {"a": (0.5, 0.5), "b": (0.5, 0.5)}).replace("a9", "s")
    measure(target, campaign, kept)
    assert newest_answer(trainings_of(campaign, target.results), campaign) == ""
    assert sentence(target, campaign, kept, table(PREQUENTIAL, {"c": (0.5, 0.7)})).startswith("On 1 case it had not")
