from __future__ import annotations

import pandas as pd
from report_campaign import NAME, make_setting
from tiny_source import source_model, write_trained

from nnunet_active.report.first_answer import first_answer
from nnunet_active.report.report_page import collect, render
from nnunet_active.rounds.forecast_record import write_forecast
from nnunet_active.training.certificate_table import CERTIFICATE_COLUMNS
from nnunet_active.training.comparison_table import ADAPTED, COLUMNS, HELD_OUT, KEPT_SOURCE, SOURCE


def train(setting, dice: dict[str, tuple[float, float]] | None, alpha: float = 1.0) -> None:
    """A training of the campaign's labels, and what it measured of itself."""
    folder = setting.results / NAME / "nnUNetTrainerActive__nnUNetActivePlans__3d_fullres"
    write_trained(
        source_model(), folder, nnunet_active={"labelled": setting.campaign.labelled(), "interpolation": alpha}
    )
    rows = []
    for case, (source, adapted) in (dice or {}).items():
        rows.append((HELD_OUT, 0, 0, 0, SOURCE, "s", case, "r", "core", source))
        rows.append((HELD_OUT, 1, 9, 1, ADAPTED, "a", case, "r", "core", adapted))
    if dice is not None:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "fold_0" / "comparison.csv", index=False)


def page(setting) -> str:
    return render(collect(setting.workspace, setting.results, pictures=False))


def test_the_answer_is_the_first_sentence_of_the_page_and_nothing_contradicts_it(nnunet_folders):
    setting = make_setting(nnunet_folders)
    train(setting, {"a": (0.8, 0.85), "b": (0.82, 0.86), "c": (0.85, 0.9)})
    text = page(setting)
    said = (
        "On 3 cases it had not seen, the adapted model went from a mean Dice of 0.823 to 0.870 and was worse in none."
    )
    assert said in text and text.index(said) < text.index("<span>Next:</span>")
    assert "no validation can tell" not in text
    assert first_answer(setting.campaign, setting.results)["cases"][0][:3] == ("a", 0.8, 0.85)


def test_before_a_training_nothing_is_said_and_one_that_measured_nothing_says_so(nnunet_folders):
    setting = make_setting(nnunet_folders)
    assert first_answer(setting.campaign, setting.results)["sentence"] == ""
    train(setting, None)
    assert "is not known yet" in first_answer(setting.campaign, setting.results)["sentence"]
    assert "no validation can tell" in page(setting)


def test_a_model_that_is_the_source_is_neither_good_nor_bad_nor_compared(nnunet_folders):
    setting = make_setting(nnunet_folders)
    train(setting, {"a": (0.8, 0.85)}, alpha=0.0)
    text = page(setting)
    assert f'<div class="answer">\n<p><strong>{KEPT_SOURCE}' in text
    assert "no validation can tell" not in text and "By label and by case" not in text


def test_the_bound_on_unlabelled_cases_is_on_the_page(nnunet_folders):
    setting = make_setting(nnunet_folders)
    train(setting, {"a": (0.8, 0.85)})
    assert first_answer(setting.campaign, setting.results)["certificate"] == ""
    folder = setting.results / NAME / "nnUNetTrainerActive__nnUNetActivePlans__3d_fullres" / "fold_0"
    row = ("a", "s", 9, 1, 1, "x", "core", 0.25)
    pd.DataFrame([row], columns=CERTIFICATE_COLUMNS).to_csv(folder / "certificate.csv", index=False)
    text = page(setting)
    assert "On 1 unlabelled case, the adapted model" in text and "by at most 0.250" in text


def test_the_last_forecast_stands_on_the_first_screen(nnunet_folders):
    setting = make_setting(nnunet_folders)
    assert first_answer(setting.campaign, setting.results)["forecast"] == []
    write_forecast(setting.campaign, {"sentences": ["Expected mean Dice: <0.7>."]}, "a")
    text = page(setting)
    assert "Expected mean Dice: &lt;0.7&gt;." in text
    assert text.index("Expected mean Dice") < text.index("<span>Next:</span>")
