from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_dataset import write_image
from tiny_target import make_target, truth

from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.training.comparison_table import ADAPTED, CROSS_FIT, HELD_OUT, PREQUENTIAL, SOURCE
from nnunet_active.training.source_comparison import Comparison, Measured, Origin
from nnunet_active.util.moments import now_in_utc


class Prophet:
    """A window that predicts given label maps, and counts how often it is asked."""

    regions = False

    def __init__(self, predictions: dict[str, np.ndarray], images: dict[str, bytes]) -> None:
        self.predictions, self.images, self.asked = predictions, images, 0

    def label_map(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        case = next(case for case, content in self.images.items() if content == image.tobytes())
        return self.predictions[case]


@pytest.fixture
def measured(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3)
    store = target.store
    labels = json.loads((target.raw / "dataset.json").read_text())["labels"]
    predictions = {f"case_{i}": truth(i) for i in range(3)}
    predictions["case_1"] = np.where(truth(1) == 2, 0, truth(1))  # the core is missed
    images = {case: store.load_image(case).tobytes() for case in predictions}
    file = nnunet_folders / "comparison.csv"
    return Comparison(file, store, labels), Prophet(predictions, images), file


def test_the_dice_is_that_of_the_whole_preprocessed_arrays(measured):
    comparison, window, file = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0", "case_1"], HELD_OUT)
    found = pd.read_csv(file).set_index(["case", "label"])["dice"]
    assert found["case_0", "oedema"] == found["case_0", "core"] == found["case_1", "oedema"] == 1
    assert found["case_1", "core"] == 0


def test_of_a_partly_labelled_case_only_the_labelled_voxels_count(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1)
    declare_ignore_label(target.raw, target.preprocessed)
    label = keep_slices(truth(0), 0, [5, 7], 3)
    write_image(target.raw / "labelsTr" / "case_0.nii.gz", label, spacing=(1.5, 1.5, 1.5))
    target.preprocess()
    predicted = np.full_like(label, 2)  # wrong wherever nobody looked
    predicted[[5, 7]] = truth(0)[[5, 7]]
    predicted[5] = 0
    window = Prophet({"case_0": predicted}, {"case_0": target.store.load_image("case_0").tobytes()})
    labels = json.loads((target.raw / "dataset.json").read_text())["labels"]
    comparison = Comparison(nnunet_folders / "comparison.csv", target.store, labels)
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0"], HELD_OUT)
    found = comparison.table.set_index("label")["dice"]
    both = [np.count_nonzero(truth(0)[[i]] == 1) for i in (5, 7)]
    assert found["oedema"] == pytest.approx(2 * both[1] / (both[0] + 2 * both[1])) and found["core"] == 1


def test_rows_of_a_kind_are_forgotten_in_the_file_too_and_others_stay(measured):
    comparison, window, file = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0"], HELD_OUT)
    comparison.measure(window, Measured("alpha 1", "def"), ["case_1"], CROSS_FIT)
    comparison.forget(CROSS_FIT)
    for table in (comparison.table, pd.read_csv(file)):
        assert set(table["kind"]) == {HELD_OUT} and len(table) == 2


def test_no_network_is_run_twice_on_a_case_also_by_another_process(measured):
    comparison, window, file = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0", "case_1"], HELD_OUT)
    assert window.asked == 2
    again = Comparison(file, comparison.store, comparison.labels)
    pd.testing.assert_frame_equal(again.table, comparison.table, check_dtype=False)
    again.measure(window, Measured(SOURCE, "abc"), ["case_0", "case_1", "case_2"], HELD_OUT)
    assert window.asked == 3
    again.measure(window, Measured(ADAPTED, "def", 1, 5, 1), ["case_0"], HELD_OUT)
    assert window.asked == 4
    assert len(again.table) == 2 * 4


def save_label(comparison: Comparison, case: str, label: np.ndarray) -> None:
    folder = comparison.store.folder
    properties, image = comparison.store.properties(case), comparison.store.load_image(case)
    for file in folder.glob(f"{case}*"):
        file.unlink()
    seg = label[None].astype(np.int8)
    nnUNetDatasetBlosc2.save_case(image, seg, properties, str(folder / case), blocks=image.shape, chunks=image.shape)


def test_a_corrected_label_is_measured_again(measured):
    comparison, window, _ = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_1"], HELD_OUT)
    save_label(comparison, "case_1", window.predictions["case_1"])
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_1"], HELD_OUT)
    assert window.asked == 2
    rows = comparison.table.set_index("label")["dice"]
    assert np.isnan(rows["core"]) and rows["oedema"] == 1


def test_a_label_is_read_again_only_if_its_file_has_changed(measured, monkeypatch):
    comparison, window, _ = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0", "case_1"], PREQUENTIAL)
    rows, whole, read = len(comparison.of_now()), comparison.reference, []
    monkeypatch.setattr(comparison, "reference", lambda case, kind: read.append(case) or whole(case, kind))
    assert len(comparison.of_now()) == rows and read == []
    os.utime(comparison.store.folder / "case_1_seg.b2nd", (2e9, 2e9))
    assert len(comparison.of_now()) == rows and read == ["case_1"]
    save_label(comparison, "case_1", np.zeros_like(truth(1)))
    assert len(comparison.of_now()) == rows / 2 and read == ["case_1", "case_1"]


def test_the_rows_of_a_corrected_label_speak_no_more_and_leave_the_file_as_a_training_goes_on(measured):
    comparison, window, file = measured
    for network in (Measured(SOURCE, "abc"), Measured(ADAPTED, "def")):
        comparison.measure(window, network, ["case_0", "case_1"], PREQUENTIAL)
    assert comparison.gain(PREQUENTIAL).cases == 2
    save_label(comparison, "case_1", window.predictions["case_1"])
    assert comparison.gain(PREQUENTIAL).cases == 1
    comparison.take_over(["case_0", "case_1"])
    assert set(pd.read_csv(file)["case"]) == set(comparison.table["case"]) == {"case_0"}
    comparison.take_over([])  # it is no labelled case of this training
    assert comparison.table.empty and pd.read_csv(file).empty


def test_what_another_campaign_or_another_source_measured_does_not_count_and_what_this_one_did_stays(measured):
    comparison, window, file = measured
    now = now_in_utc()

    def opened(campaign: str, source: str | None = "abc") -> Comparison:
        origin = Origin(campaign, source)
        return Comparison(file, comparison.store, comparison.labels, origin=origin)

    first = opened(now)
    first.take_over([])
    for network in (Measured(SOURCE, "abc"), Measured(ADAPTED, "def")):
        first.measure(window, network, ["case_0"], PREQUENTIAL)
    for again in (opened(now), opened(now, None)):  # of a training that goes on, or of the next one
        again.take_over(["case_0"])
        assert again.gain(PREQUENTIAL).cases == 1
    assert opened(now, "another").gain(PREQUENTIAL).cases == 0
    second = opened("2999-01-01T00:00:00+00:00")
    assert second.gain(PREQUENTIAL).cases == 0 and len(pd.read_csv(file)) == 4
    second.take_over(["case_0"])
    assert pd.read_csv(file).empty and opened(now).table.empty


def test_each_round_has_its_numbers_and_the_source_has_one(measured):
    comparison, window, _ = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0"], HELD_OUT)
    for number, epoch in ((1, 4), (2, 8), (2, 8)):
        comparison.measure(window, Measured(SOURCE, "abc"), ["case_0"], HELD_OUT)
        comparison.measure(window, Measured(ADAPTED, f"net{number}", number, epoch, number), ["case_0"], HELD_OUT)
    counts = comparison.table.groupby(["model", "round"]).size().to_dict()
    assert counts == {(ADAPTED, 1): 2, (ADAPTED, 2): 2, (SOURCE, 0): 2}
    assert comparison.gain(HELD_OUT, 1, 4).cases == 1
    assert comparison.gain(HELD_OUT, 3, 9).cases == 0
    comparison.begin()
    assert set(comparison.table["model"]) == {SOURCE}


def test_a_damaged_file_is_as_good_as_none(measured):
    comparison, window, file = measured
    file.write_text("nonsense,\n\x00")
    again = Comparison(file, comparison.store, comparison.labels)
    assert again.table.empty
    again.measure(window, Measured(SOURCE, "abc"), ["case_0"], HELD_OUT)
    assert len(pd.read_csv(file)) == 2


def test_a_replaced_image_is_measured_again_and_what_was_measured_on_the_old_one_speaks_no_more(measured):
    comparison, window, _ = measured
    for network in (Measured(SOURCE, "abc"), Measured(ADAPTED, "def")):
        comparison.measure(window, network, ["case_0", "case_1"], PREQUENTIAL)
    store = comparison.store
    properties, label = store.properties("case_1"), read_label_map(store.folder, "case_1")
    image = store.load_image("case_1") + 1
    for file in store.folder.glob("case_1*"):
        file.unlink()
    nnUNetDatasetBlosc2.save_case(
        image, label, properties, str(store.folder / "case_1"), blocks=image.shape, chunks=image.shape
    )
    assert set(comparison.of_now()["case"]) == {"case_0"} and comparison.gain(PREQUENTIAL).cases == 1
    window.images["case_1"], asked = image.tobytes(), window.asked
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0", "case_1"], HELD_OUT)
    assert window.asked == asked + 1


def test_rows_of_an_earlier_version_which_recorded_the_label_alone_still_count(measured):
    comparison, window, _ = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_0", "case_1"], PREQUENTIAL)
    comparison.table["reference"] = comparison.table["reference"].str.partition("-")[0]
    assert set(comparison.of_now()["case"]) == {"case_0", "case_1"}
    save_label(comparison, "case_1", window.predictions["case_1"])
    assert set(comparison.of_now()["case"]) == {"case_0"}


def test_what_an_earlier_training_measured_on_new_labels_is_older_than_all_of_a_new_training(measured):
    comparison, window, file = measured
    for network in (Measured(SOURCE, "abc", epoch=40), Measured(ADAPTED, "def", epoch=40)):
        comparison.measure(window, network, ["case_0"], PREQUENTIAL)
    comparison.begin()
    for table in (comparison.table, pd.read_csv(file)):
        assert len(table) == 4 and set(table["epoch"]) == {0}
