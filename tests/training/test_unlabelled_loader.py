from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_target import make_target
from tiny_training import start, trainer_of

from nnunet_active.training.unlabelled_loader import NoLabel, UnlabelledDataset, unlabelled_loader


def test_an_image_comes_in_parts_with_background_as_its_label_and_a_withheld_label_stays_closed(
    nnunet_folders, monkeypatch
):
    target = make_target(nnunet_folders, labelled=2, unlabelled=1)
    opened: list[str] = []
    monkeypatch.setattr(nnUNetDatasetBlosc2, "load_case", lambda self, case: opened.append(case))
    for file in target.store.folder.glob("*_seg.b2nd"):
        file.write_bytes(b"withheld")  # whoever opens it fails
    data = UnlabelledDataset(target.store, target.store.identifiers())
    assert data.identifiers == ["case_0", "case_1", "case_2"]
    for case in data.identifiers:
        image, label, before, properties = data[case]
        whole = target.store.load_image(case)
        assert before is None and label.shape == (1, *whole.shape[1:])
        part = (slice(None), slice(2, 5), slice(0, 4), slice(1, 3))
        assert np.array_equal(image[part], whole[part])
        assert label[part].shape == (1, 3, 4, 2) and not label[part].any()
        places = properties["class_locations"][-1, 0, 1, 2]
        assert len(places) == whole[0].size
        assert places[len(places) - 1] == (0, *(length - 1 for length in whole.shape[1:]))
        assert list(properties["class_locations"]) == []
    assert not opened


def test_outside_of_the_mask_stands_nnunets_mark_where_images_are_normalised_in_one():
    image = np.ones((2, 1, 2, 3), np.float32)
    image[:, 0, 0] = 0
    image[0, 0, 1, 0] = 0  # only one channel is 0: inside
    everything = (slice(None),) * 4
    assert NoLabel(image, masked=True)[everything].tolist() == [[[[-1] * 3, [0] * 3]]]
    assert not NoLabel(image, masked=False)[everything].any()


@pytest.mark.parametrize(("name", "ignore"), [("2d", False), ("3d_fullres", True)])
def test_batches_are_the_trainers_own_in_size_and_shape_also_with_an_ignore_label(nnunet_folders, name, ignore):
    labels = {"background": 0, "oedema": 1, "core": 2, **({"ignore": 3} if ignore else {})}
    target = make_target(nnunet_folders, labelled=4, name=name, labels=labels)
    start(target, budget=1, epochs=1)
    trainer = trainer_of(target)
    trainer.on_train_start()
    share = trainer.oversample_foreground_percent
    loader = unlabelled_loader(trainer, ["case_2", "case_3"], trainer.get_dataloaders)
    batches = [next(loader) for _ in range(6)]
    labelled = next(trainer.dataloader_train)
    assert all(batch["data"].shape == labelled["data"].shape for batch in batches)
    assert {case for batch in batches for case in batch["keys"]} == {"case_2", "case_3"}
    assert all(bool(torch.isfinite(batch["data"]).all()) for batch in batches)
    assert share > 0 and trainer.oversample_foreground_percent == share
    assert trainer.get_tr_and_val_datasets()[0].identifiers == trainer.session.labelled(0)
    trainer.session.end()
