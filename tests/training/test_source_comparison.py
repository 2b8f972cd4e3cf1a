from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from tiny_dataset import write_image
from tiny_target import make_target, truth

from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.training.source_comparison import (
    ADAPTED,
    COLUMNS,
    HELD_OUT,
    PREQUENTIAL,
    SOURCE,
    Comparison,
    Measured,
    gain_of,
)

NAN = float("nan")


def table(dice: dict[tuple[str, str], tuple[float, float]]) -> pd.DataFrame:
    """(case, label) -> Dice of the source and of the adapted network."""
    rows = [
        {"model": model, "case": case, "label": label, "dice": value}
        for (case, label), values in dice.items()
        for model, value in zip((SOURCE, ADAPTED), values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_gain_is_that_of_the_mean_over_cases_of_the_mean_over_labels():
    gain = gain_of(table({("a", "x"): (0.2, 0.6), ("a", "y"): (0.4, 0.6), ("b", "x"): (0.9, 0.8)}), HELD_OUT)
    assert (gain.cases, gain.worse) == (2, 1)
    assert gain.source == pytest.approx((0.3 + 0.9) / 2)
    assert gain.adapted == pytest.approx((0.6 + 0.8) / 2)
    assert not gain.is_worse  # two cases are too few to be sure
    assert "only 2 cases" in gain.lines()[-1]


def test_the_bound_is_that_of_a_one_sided_paired_t_test():
    rng = np.random.default_rng(0)
    source = rng.uniform(0.3, 0.6, 9)
    adapted = source + rng.normal(0.05, 0.05, 9)
    gain = gain_of(table({(f"c{i}", "x"): pair for i, pair in enumerate(zip(source, adapted, strict=True))}), HELD_OUT)
    interval = stats.ttest_rel(adapted, source, alternative="greater").confidence_interval(0.95)
    assert gain.bound == pytest.approx(interval.low)


def test_a_worse_network_is_called_worse_and_a_better_one_is_not():
    worse = gain_of(table({(case, "x"): (0.5, 0.4) for case in "abcd"}), HELD_OUT)
    assert worse.is_worse
    assert "WARNING: on these cases the adapted network is worse" in worse.lines()[1]
    better = gain_of(table({(case, "x"): (0.5, 0.6 + i / 100) for i, case in enumerate("abcd")}), HELD_OUT)
    assert len(better.lines()) == 1
    assert "0.5000 -> 0.6150 (+0.1150; worse in 0 of 4)" in better.lines()[0]


def test_a_label_that_is_lost_is_named_though_the_mean_gains():
    dice = {(case, "x"): (0.5, 0.9) for case in "abc"} | {(case, "rare"): (0.4, 0.1) for case in "abc"}
    gain = gain_of(table(dice), HELD_OUT)
    assert not gain.is_worse
    assert any("worse in rare: mean Dice -0.3000" in line for line in gain.lines())


def test_what_is_neither_there_nor_found_does_not_count_and_a_false_alarm_does():
    gain = gain_of(table({("a", "x"): (NAN, NAN), ("a", "y"): (0.5, 0.5), ("b", "x"): (NAN, 0.0)}), HELD_OUT)
    assert (gain.source, gain.adapted) == (pytest.approx(0.75), pytest.approx(0.25))
    assert gain.worse == 1


def test_only_cases_of_both_networks_count_and_none_is_said_to_be_unknown():
    rows = table({("a", "x"): (0.5, 0.6)})
    assert gain_of(rows[rows["model"] == SOURCE], PREQUENTIAL).lines()[0].startswith("WARNING: it is not known")
    assert gain_of(pd.DataFrame(columns=COLUMNS), PREQUENTIAL).cases == 0


class Prophet:
    """A window that predicts given label maps, and counts how often it is asked."""

    regions = False

    def __init__(self, predictions: dict[str, np.ndarray], images: dict[str, bytes]) -> None:
        self.predictions, self.images, self.asked = predictions, images, 0

    def logits(self, image: np.ndarray) -> torch.Tensor:
        self.asked += 1
        case = next(case for case, content in self.images.items() if content == image.tobytes())
        classes = torch.from_numpy(self.predictions[case].astype(np.int64))
        return torch.nn.functional.one_hot(classes, 3).movedim(-1, 0).float()


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


def test_a_corrected_label_is_measured_again(measured):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    comparison, window, _ = measured
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_1"], HELD_OUT)
    folder = comparison.store.folder
    properties = comparison.store.properties("case_1")
    image = comparison.store.load_image("case_1")
    for file in folder.glob("case_1*"):
        file.unlink()
    seg = window.predictions["case_1"][None].astype(np.int8)
    nnUNetDatasetBlosc2.save_case(
        image, seg, properties, str(folder / "case_1"), blocks=image.shape, chunks=image.shape
    )
    comparison.measure(window, Measured(SOURCE, "abc"), ["case_1"], HELD_OUT)
    assert window.asked == 2
    rows = comparison.table.set_index("label")["dice"]
    assert np.isnan(rows["core"]) and rows["oedema"] == 1


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
