from __future__ import annotations

import json
import shutil

import pytest
import tiny_handoff
from tiny_dataset import write_image
from tiny_rounds import request, start

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.rounds import labels_at_hand
from nnunet_active.rounds.labels_at_hand import handoff_content, returned_labels, waiting_lines


def look(target, campaign):
    return returned_labels(campaign, RawDataset(target.raw), target.store)


def test_before_the_hand_off_nothing_can_have_come_back(target):
    campaign = start()
    request(campaign, "case_1", "case_2")
    found = look(target, campaign)
    assert [one.ready for one in found.values()] == [False, False]
    assert {one.sentence for one in found.values()} == {"not handed over to an annotator yet"}


@pytest.mark.parametrize("slicer", [False, True])
def test_an_untouched_prediction_is_no_label_and_an_edited_one_is(target, tmp_path, slicer):
    campaign = start()
    request(campaign, "case_1", "case_2")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out", slicer)
    assert not any(one.ready for one in look(target, campaign).values())
    tiny_handoff.edit(folder, "case_2")
    found = look(target, campaign)
    assert [found[case].ready for case in ("case_1", "case_2")] == [False, True]
    assert found["case_2"].sentence == "case_2/case_2.nii.gz was edited" and found["case_2"].where == folder


def test_labels_that_were_renumbered_in_the_raw_dataset_json_edit_no_prediction(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    tiny_handoff.hand_out(target, campaign, tmp_path / "out", slicer=True)
    file = target.raw / "dataset.json"
    content = json.loads(file.read_text())
    names = list(content["labels"])
    content["labels"] = dict(zip([names[0], *reversed(names[1:])], range(len(names)), strict=True))
    file.write_text(json.dumps(content))
    assert not look(target, campaign)["case_1"].ready  # ingest counts with those of before, too


def test_a_prediction_that_somebody_accepted_as_it_is_is_a_label(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    (folder / "case_2" / "accepted").mkdir()
    shutil.copy(folder / "case_2" / "case_2.nii.gz", folder / "case_2" / "accepted")
    found = look(target, campaign)
    assert [found[case].ready for case in ("case_1", "case_2")] == [False, True]
    assert found["case_2"].sentence == "case_2/accepted/case_2.nii.gz was accepted"


def test_a_file_that_cannot_be_read_was_touched_by_somebody_and_ingest_would_refuse_it(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    file = folder / "case_1" / "case_1.nii.gz"
    file.write_bytes(file.read_bytes()[:100])
    found = look(target, campaign)["case_1"]
    assert found.refused and not found.ready and "ingest refuses its label: " in found.sentence


@pytest.mark.parametrize("renamed", [False, True])
def test_a_label_under_another_name_is_told_with_the_right_one(target, tmp_path, renamed):
    campaign = start()
    request(campaign, "case_1")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    file = tiny_handoff.edit(folder, "case_1", ending="_corrected.nii.gz")
    if renamed:
        (file.parent / "case_1.nii.gz").unlink()
    found = look(target, campaign)["case_1"]
    assert found.refused and f"{file} is not named after the case" in found.sentence
    assert f"save it as {file.parent / 'case_1.nii.gz'}" in found.sentence


def test_a_label_in_labels_tr_counts_unless_it_is_the_prediction(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    label = target.raw / "labelsTr" / "case_1.nii.gz"
    write_image(label, tiny_handoff.predicted("case_1"), spacing=(1.5, 1.5, 1.5))
    assert not look(target, campaign)["case_1"].ready
    target.label("case_1", 1)
    assert look(target, campaign)["case_1"].sentence == "its label is in labelsTr and not ingested yet"


def test_what_has_gone_is_said(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    (folder / "case_1" / "case_1.nii.gz").unlink()
    (target.raw / "imagesTr" / "case_2_0001.nii.gz").unlink()
    found = look(target, campaign)
    assert "is not in" in found["case_1"].sentence and "lacks the channel" in found["case_2"].sentence
    shutil.rmtree(folder)
    assert look(target, campaign)["case_1"].where is None


def test_a_hand_off_folder_is_read_and_searched_once_for_all_of_its_cases(target, tmp_path, monkeypatch):
    campaign = start()
    request(campaign, "case_1", "case_2", "case_3")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    tiny_handoff.edit(folder, "case_2")
    seen = []
    for name in ("read_handoff", "find_label_files"):
        real = getattr(labels_at_hand, name)

        def noted(place, *more, name=name, real=real):
            seen.append((name, place))
            return real(place, *more)

        monkeypatch.setattr(labels_at_hand, name, noted)
    assert [one.ready for one in look(target, campaign).values()] == [False, True, False]
    assert sorted(seen) == [("find_label_files", folder), ("read_handoff", folder)]


def test_each_waiting_case_stands_under_the_headline_that_says_what_to_do(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2", "case_3")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    request(campaign, "case_4", made_by="training")
    tiny_handoff.edit(folder, "case_2")
    (folder / "case_1" / "case_1.nii.gz").write_bytes(b"broken")
    lines = waiting_lines(look(target, campaign))
    heads = (
        "Finished labels",
        "  case_2: ",
        "A label that came back cannot",
        "  case_1: ",
        "There is no hand-off folder",
    )
    heads += ("  case_4: ", f"A person has to label these cases: in {folder} ", "  case_3: ")
    assert len(lines) == len(heads) and all(line.startswith(head) for line, head in zip(lines, heads, strict=True))


def test_a_damaged_or_absent_record_is_an_empty_one(tmp_path):
    assert handoff_content(None) == {} == handoff_content(tmp_path)
    (tmp_path / "handoff.json").write_text("{")
    assert handoff_content(tmp_path) == {}
