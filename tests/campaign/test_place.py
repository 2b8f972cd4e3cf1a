from __future__ import annotations

from nnunet_active.campaign.place import Place


def test_a_place_knows_the_folder_of_its_campaign(nnunet_folders):
    place = Place.of("Dataset902_TinyTarget", "3d_fullres", "nnUNetActivePlans", "all")
    assert place.dataset == "Dataset902_TinyTarget"
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset902_TinyTarget"
    assert place.campaign_folder == folder / "active" / "fold_all"
