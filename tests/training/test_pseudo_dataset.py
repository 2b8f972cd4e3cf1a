from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_active.training.pseudo_dataset import MixedDataset


def dataset(*cases: str) -> SimpleNamespace:
    return SimpleNamespace(
        identifiers=list(cases),
        source_folder="/" + cases[0] if cases else "",
        load_case=lambda case: (case, None, None, {}),
    )


def drawn(mixed: MixedDataset, n: int = 4000) -> np.ndarray:
    np.random.seed(0)  # noqa: NPY002 - what nnU-Net seeds
    asked = np.random.choice(mixed.identifiers, n)  # noqa: NPY002 - as nnU-Net's loader asks
    return np.array([mixed.load_case(case)[0] for case in asked])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_the_share_is_met_whatever_the_numbers_of_cases_and_cases_are_equal_among_themselves(share):
    found = drawn(MixedDataset(dataset("a", "b"), dataset(*"PQRST"), share))
    is_pseudo = np.char.isupper(found)
    assert is_pseudo.mean() == pytest.approx(share, abs=0.03)
    if share:
        _, counts = np.unique(found[is_pseudo], return_counts=True)
        assert len(counts) == 5
        np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.05)
    _, counts = np.unique(found[~is_pseudo], return_counts=True)
    np.testing.assert_allclose(counts / counts.sum(), 0.5, atol=0.06)


def test_nnunet_sees_the_labelled_cases_only_and_a_seed_repeats_the_draws():
    mixed = MixedDataset(dataset("a", "b"), dataset("P"), 0.5)
    assert mixed.identifiers == ["a", "b"]
    assert list(drawn(mixed, 50)) == list(drawn(mixed, 50))


@pytest.mark.parametrize(
    ("pseudo", "share", "said"),
    [((), 0.5, "needs a pseudo-labelled case"), (("P",), 1.0, "less than 1"), (("P", "a"), 0.5, "at once: a")],
)
def test_what_makes_no_training_set_is_refused(pseudo, share, said):
    with pytest.raises(ValueError, match=said):
        MixedDataset(dataset("a", "b"), dataset(*pseudo), share)


def test_a_partly_labelled_case_is_loaded_as_it_is_and_with_predictions_in_the_rest():
    pseudo = dataset("a", "P")
    pseudo.load_case = lambda case: (case.upper(), None, None, {})
    assert set(drawn(MixedDataset(dataset("a", "b"), pseudo, 0.5, filled=["a"]), 200)) == {"a", "b", "A", "P"}


def test_nnunets_own_loader_takes_it_and_no_image_is_copied(nnunet_folders):
    """Real preprocessed cases, one of them as a link with a label of its own."""
    import json

    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from tiny_target import PLANS, make_target

    target = make_target(nnunet_folders, labelled=3)
    store, folder = target.store, nnunet_folders / "pseudo"
    folder.mkdir()
    for ending in (".b2nd", "_seg.b2nd", ".pkl"):
        (folder / f"case_2{ending}").symlink_to(store.folder / f"case_2{ending}")
    mixed = MixedDataset(
        nnUNetDatasetBlosc2(str(store.folder), ["case_0"]), nnUNetDatasetBlosc2(str(folder), ["case_2"]), 0.5
    )
    plans = PlansManager(json.loads((target.preprocessed / f"{PLANS}.json").read_text()))
    labels = plans.get_label_manager(json.loads((target.preprocessed / "dataset.json").read_text()))
    loader = nnUNetDataLoader(mixed, 2, (16, 20, 18), (16, 20, 18), labels)
    np.random.seed(1)  # noqa: NPY002 - as above
    images = {image.numpy().tobytes() for _ in range(8) for image in next(loader)["data"]}
    assert images == {store.load_image(case).tobytes() for case in ("case_0", "case_2")}
