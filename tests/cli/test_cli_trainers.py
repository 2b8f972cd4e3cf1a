from __future__ import annotations

import ast
from pathlib import Path

from nnunet_active.cli import trainers
from nnunet_active.cli.main import main


def test_the_folder_alone_is_printed_for_the_shell(capsys):
    assert main(["trainers"]) == 0
    assert capsys.readouterr().out == f"{trainers.discovery_folder()}\n"


def test_export_prints_the_whole_line(capsys):
    assert main(["trainers", "--export"]) == 0
    assert capsys.readouterr().out == f'export nnUNet_extTrainer="{trainers.discovery_folder()}"\n'


def test_the_folder_holds_one_module_that_re_exports_the_trainers():
    """nnU-Net imports every module below it, so there must be nothing else."""
    folder = trainers.discovery_folder()
    assert folder.is_absolute()
    (module,) = [path for path in folder.rglob("*.py") if path.name != "__init__.py"]
    imported = {
        alias.name
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    written = {path.stem for path in Path(__file__).parents[2].joinpath("trainers").glob("nnUNetTrainer*.py")}
    assert imported == written >= {"nnUNetTrainerMmActS", "nnUNetTrainerActive"}


def test_nnunet_finds_the_trainers_by_name(monkeypatch):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_active.nnunet.networks import find_trainer_class
    from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS

    assert find_trainer_class("nnUNetTrainerMmActS") is None
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers.discovery_folder()))
    found = find_trainer_class("nnUNetTrainerMmActS")
    assert found is nnUNetTrainerMmActS and issubclass(found, nnUNetTrainer)
