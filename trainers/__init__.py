"""Trainers that the stock ``nnUNetv2_train -tr`` finds through ``nnUNet_extTrainer``."""
