"""The trainers that stock nnU-Net finds by name (``nnUNetv2_train ... -tr NAME``). Their classes are elsewhere, so that they pickle."""

from nnunet_active.trainers.nnUNetTrainerActive import nnUNetTrainerActive
from nnunet_active.trainers.nnUNetTrainerActiveAdamW import nnUNetTrainerActiveAdamW
from nnunet_active.trainers.nnUNetTrainerASSFT import nnUNetTrainerASSFT
from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS

__all__ = ["nnUNetTrainerASSFT", "nnUNetTrainerActive", "nnUNetTrainerActiveAdamW", "nnUNetTrainerMmActS"]
