from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_campaign import CASES, HOSTILE, add_round, make_setting

from nnunet_active.annotation.label_colours import labels_of
from nnunet_active.report import case_card
from nnunet_active.report import report_page as page
from nnunet_active.report.report_page import write_report


class Reader(HTMLParser):
    """Tags, their attributes and the text between them; complains where tags do not match."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def make(setting, tmp_path, **more) -> tuple[str, Reader]:
    file = write_report(setting.workspace, setting.results, tmp_path / "r" / "report.html", **more)
    text = file.read_text(encoding="utf-8")
    return text, Reader(text)


def test_the_page_is_one_whole_document_that_names_everything(nnunet_folders, tmp_path):
    _, found = make(make_setting(nnunet_folders), tmp_path)
    for words in (
        "Patient data.",
        "holds images of patients",
        "Write the hand-off folder",
        "nnunet_active annotate",
        "Waiting for a label: case_2, case_3",
        "Round 2: who was chosen",
        "Between trainings the strategy mmacts chose 2 of 4 cases",
        "Round 1: case_0, case_1",
        "A map of the cases",
        "Mean Dice of the labels that were changed: oedema 0.75",
        "case_1 : moved <b>a lot</b>",
        "campaign begun with nnunet_active",
        "a note <i>with</i> marks",
        "case_9 could not be scored.",
    ):
        assert words in found.text, words
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.tags:
        if tag == "img":
            assert attributes["alt"] and "slice" in attributes["alt"]
        target = attributes.get("href", "")
        assert not target.startswith("#") or target[1:] in ids, target


def test_nothing_is_fetched_from_outside(nnunet_folders, tmp_path):
    text, found = make(make_setting(nnunet_folders), tmp_path)
    for tag, attributes in found.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    rest = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert (
        "http" not in rest.replace("http-equiv", "")
        and "@import" not in rest
        and "url(" not in re.sub(r"url\(#", "", rest)
    )
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_names_from_files_are_escaped_everywhere(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders, channels=(HOSTILE, "T1"), rounds=0)
    add_round(setting, ["case_0"])
    _, found = make(setting, tmp_path)
    assert [tag for tag, _ in found.tags].count("script") == 1
    captions = [a["alt"] for t, a in found.tags if t == "img"]
    assert sum(alt.startswith(HOSTILE) for alt in captions) == 3
    assert HOSTILE in found.text


def test_the_key_to_the_pictures_names_only_what_they_hold(nnunet_folders, tmp_path):
    _, found = make(make_setting(nnunet_folders, archive=False), tmp_path)
    assert "outline of" not in found.text and "coin toss" not in found.text and "Letters name" in found.text
    assert not [tag for tag, _ in found.tags if tag == "input"]


def test_outlines_have_the_colours_of_the_hand_off_folder(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders)
    text, found = make(setting, tmp_path)
    drawn = {a["stroke"] for t, a in found.tags if t == "path" and a.get("class") == "line"}
    assert drawn == {"#{:02x}{:02x}{:02x}".format(*label.colour) for label in labels_of(setting.raw.dataset_json)}
    assert all(text.count(colour) > 2 for colour in drawn)  # in the key as well


def test_cases_set_aside_are_counted_and_named_with_the_reason_on_the_first_screen(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders)
    (setting.raw_folder / "imagesTr" / "case_5_0001.nii.gz").unlink()
    _, found = make(setting, tmp_path)
    assert "1 case is set aside and cannot be asked for until that is mended:" in found.text
    assert "case_5 lacks the channel FLAIR" in found.text
    assert found.text.index("set aside") < found.text.index("Round 2: who was chosen")


def test_a_prediction_that_was_accepted_as_it_was_does_not_count_as_a_dice_of_1(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders)
    facts = {**setting.campaign.ingested["case_0"], "dice": {"oedema": 1.0, "core": 1.0}, "changed_voxels": 0}
    setting.campaign.record_label("case_2", facts)
    _, found = make(setting, tmp_path)
    assert "Mean Dice of the labels that were changed: oedema 0.75 ." in found.text
    assert "1 prediction was accepted as it was; it counts neither in the mean nor in the plots." in found.text
    assert "accepted as predicted" in found.text


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"changed_voxels": 0}, "1 prediction was accepted as it was"),
        ({"changed_voxels": None, "dice": {}, "volume_predicted_mm3": {}}, "Labels in the order in which they came in"),
    ],
)
def test_where_no_label_was_changed_or_compared_there_is_a_page_without_those_plots(
    nnunet_folders, tmp_path, facts, said
):
    setting = make_setting(nnunet_folders)
    setting.campaign.record_label("case_0", {**setting.campaign.ingested["case_0"], **facts})
    text, found = make(setting, tmp_path)
    assert said in found.text and "Dice between prediction and label in the order" not in text


def test_pictures_can_be_left_out_and_the_page_says_so(nnunet_folders, tmp_path):
    _, found = make(make_setting(nnunet_folders), tmp_path, pictures=False)
    assert not [tag for tag, _ in found.tags if tag in ("img", "image")]
    assert "names of cases but no images" in found.text and "holds images" not in found.text


def test_before_the_first_query_the_page_says_what_comes_next(nnunet_folders, tmp_path):
    _, found = make(make_setting(nnunet_folders, rounds=0), tmp_path)
    assert "Next:" in found.text and "No query has been made yet, so there is no map." in found.text
    assert "Earlier rounds" not in found.text


def test_a_damaged_round_costs_the_others_nothing(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders)
    (setting.campaign.rounds[0].folder / "scores.csv").unlink()
    _, found = make(setting, tmp_path)
    assert "Round 1 cannot be shown" in found.text and "Round 2: who was chosen" in found.text


def test_one_case_and_no_embeddings_make_a_page(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders, rounds=0)
    setting.campaign.exclude(CASES[1:])
    add_round(setting, ["case_0"], archive=False, arrays={})
    _, found = make(setting, tmp_path)
    assert "does without embeddings" in found.text and "chose 1 of 1 cases" in found.text


def test_a_hand_off_folder_is_read_once_for_the_cards_of_a_round(nnunet_folders, tmp_path, monkeypatch):
    setting = make_setting(nnunet_folders)
    asked = []
    monkeypatch.setattr(page, "handoff_content", lambda folder: asked.append(folder) or {})
    monkeypatch.setattr(case_card, "handoff_content", page.handoff_content)
    make(setting, tmp_path, pictures=False)
    assert len(asked) == len(setting.campaign.rounds) < len(setting.campaign.requested())


def test_of_many_cases_the_newest_have_pictures(nnunet_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_CASES", 3)
    _, found = make(make_setting(nnunet_folders), tmp_path)
    alts = " ".join(a["alt"] for t, a in found.tags if t == "img")
    assert {case for case in CASES if case in alts} == {"case_0", "case_2", "case_3"}
    assert "1 more case was asked for earlier" in found.text


def test_a_case_that_nobody_foresaw_does_not_take_the_page_down(nnunet_folders, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("unforeseen")

    monkeypatch.setattr("nnunet_active.report.slices.make_views", fail)
    _, found = make(make_setting(nnunet_folders), tmp_path)
    assert "Pictures are missing: ValueError: unforeseen" in found.text and "Round 2: who was chosen" in found.text


def test_ten_cases_of_four_channels_stay_below_ten_megabytes(nnunet_folders, tmp_path, monkeypatch):
    setting = make_setting(nnunet_folders, channels=("a", "b", "c", "d"))
    rng = np.random.default_rng(0)

    def large(plane, window):
        return grey(rng.random((512, 512)), (0, 1))

    grey = page.case_card.__globals__["slices"].grey_picture
    monkeypatch.setattr("nnunet_active.report.slices.grey_picture", large)
    text, _ = make(setting, tmp_path)
    assert 4e5 < len(text) / 4 < 1e6  # four cases


@pytest.mark.parametrize("number", [1, 2])
def test_the_report_is_made_without_writing_anything_else(nnunet_folders, tmp_path, number):
    setting = make_setting(nnunet_folders, rounds=number)
    before = {file: file.stat().st_mtime_ns for file in nnunet_folders.rglob("*")}
    make(setting, tmp_path)
    after = {
        file: file.stat().st_mtime_ns for file in nnunet_folders.rglob("*") if tmp_path / "r" not in (file, file.parent)
    }
    before.pop(tmp_path, None), after.pop(tmp_path, None)
    assert after == before
