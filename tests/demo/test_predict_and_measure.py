from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_active.demo.phantom import PhantomSizes, write_phantom_pair
from nnunet_active.demo.predict_and_measure import evaluate, load_predictor
from nnunet_active.demo.source_training import Schedule, train_source
from nnunet_active.util.errors import MissingInput


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A phantom source and a network that has hardly learnt anything."""
    folder = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as environment:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            environment.setenv(variable, str(folder / variable))
        pair = write_phantom_pair(folder / "nnUNet_raw", PhantomSizes(5, 3, 3, 1))
        model = train_source(pair.source_name, Schedule(epochs=1, iterations=2, val_iterations=1), progress=False)
    return pair.source_folder, model.folder


def _write_like(path, array):
    like = sitk.ReadImage(path)
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(like)
    sitk.WriteImage(image, path)


def test_dice_and_iou_are_those_of_the_prediction_files_and_iou_follows_from_dice(trained, tmp_path):
    raw, model = trained
    found = evaluate(model, raw / "imagesTs", raw / "labelsTs", tmp_path / "out", progress=False)
    assert len(found.per_case) == 3 * 2
    for row in found.per_case.itertuples():
        reference, predicted = (
            sitk.GetArrayFromImage(sitk.ReadImage(folder / f"{row.identifier}.nii.gz"))
            == {"oedema": 1, "core": 2}[row.label]
            for folder in (raw / "labelsTs", tmp_path / "out")
        )
        assert row.dice == pytest.approx(2 * (reference & predicted).sum() / (reference.sum() + predicted.sum()))
        assert row.iou == pytest.approx(row.dice / (2 - row.dice))
    assert found.mean_dice == pytest.approx(found.per_case.groupby("label")["dice"].mean().mean())


def test_a_perfect_prediction_counts_one_and_a_class_that_is_nowhere_is_left_out(trained, tmp_path):
    raw, model = trained
    labels = tmp_path / "labels"
    labels.mkdir()
    evaluate(model, raw / "imagesTs", raw / "labelsTs", tmp_path / "out", progress=False)
    files = sorted((tmp_path / "out").glob("*.nii.gz"))
    for i, file in enumerate(files):
        predicted = sitk.GetArrayFromImage(sitk.ReadImage(file))
        target = labels / file.name
        target.write_bytes((raw / "labelsTs" / file.name).read_bytes())
        _write_like(target, predicted if i else np.zeros_like(predicted))
    found = evaluate(model, raw / "imagesTs", labels, tmp_path / "again", progress=False)
    per_case = found.per_case.set_index(["identifier", "label"])["dice"]
    first = files[0].name.removesuffix(".nii.gz")
    for (identifier, label), dice in per_case.items():
        value = {"oedema": 1, "core": 2}[label]
        somewhere = (sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "again" / f"{identifier}.nii.gz")) == value).any()
        if not somewhere:
            assert np.isnan(dice)
        else:
            assert dice == (0 if identifier == first else 1)
    assert found.per_class["cases"].sum() == per_case.notna().sum()


def test_cases_without_a_label_are_left_out_and_none_at_all_is_an_error(trained, tmp_path):
    raw, model = trained
    labels = tmp_path / "labels"
    labels.mkdir()
    with pytest.raises(MissingInput, match="labelsTs"):
        evaluate(model, raw / "imagesTs", labels, tmp_path / "out", progress=False)
    first = sorted((raw / "labelsTs").iterdir())[0]
    (labels / first.name).write_bytes(first.read_bytes())
    found = evaluate(model, raw / "imagesTs", labels, tmp_path / "out", progress=False)
    assert set(found.per_case["identifier"]) == {first.name.removesuffix(".nii.gz")}


def test_a_missing_checkpoint_is_named(trained):
    with pytest.raises(MissingInput, match=r"fold_3.*checkpoint_final\.pth"):
        load_predictor(trained[1], fold=3)
