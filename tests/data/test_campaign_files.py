from nnunet_active.data.campaign_files import campaign_file, campaign_files
from nnunet_active.util.outputs import keep_aside


def test_the_campaigns_of_a_data_set_are_found_in_the_order_of_their_folds(tmp_path):
    assert campaign_files(tmp_path) == {}
    for fold in ("all", 10, 2):
        file = campaign_file(tmp_path, fold)
        file.parent.mkdir(parents=True)
        file.touch()
    campaign_file(tmp_path, 3).parent.mkdir()  # a fold whose campaign has not begun
    assert list(campaign_files(tmp_path)) == ["2", "10", "all"]
    assert campaign_files(tmp_path)["10"] == tmp_path / "active" / "fold_10" / "campaign.json"


def test_a_campaign_that_was_set_aside_is_none(tmp_path):
    for fold in ("0", "all"):
        campaign_file(tmp_path, fold).parent.mkdir(parents=True)
        campaign_file(tmp_path, fold).touch()
    keep_aside(campaign_file(tmp_path, "0").parent)
    assert list(campaign_files(tmp_path)) == ["all"]
