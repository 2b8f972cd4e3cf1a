from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from report_campaign import NAME, make_setting

from nnunet_active.cli.main import main


@pytest.fixture
def setting(nnunet_folders):
    return make_setting(nnunet_folders)


@pytest.mark.parametrize("dataset", ["901", NAME])
def test_the_report_lies_in_the_campaigns_folder_unless_told_otherwise(setting, dataset, capsys, tmp_path):
    assert main(["report", "-d", dataset]) == 0
    file = setting.campaign.folder / "report.html"
    assert str(file) in capsys.readouterr().out and "data:image/png" in file.read_text()
    assert main(["report", "-d", dataset, "-o", str(tmp_path / "a" / "b.html"), "--no-images"]) == 0
    out = capsys.readouterr().out
    assert "it holds the names of cases" in out and "data:image/png" not in (tmp_path / "a" / "b.html").read_text()


def test_a_fold_without_a_campaign_and_a_folder_in_place_of_a_file_are_said_in_a_sentence(setting, capsys, tmp_path):
    assert main(["report", "-d", "901", "-f", "3"]) == 2
    assert "There is no campaign for fold 3" in capsys.readouterr().err
    assert main(["report", "-d", "901", "-o", str(tmp_path)]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["report", "-d", "901", "-o", str(tmp_path / "file" / "r.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_report_is_made_while_a_training_holds_the_campaign(setting, capsys):
    with setting.campaign.lock():
        assert main(["report", "-d", "901"]) == 0
