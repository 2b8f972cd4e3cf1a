"""The folder that ``nnUNet_extTrainer`` points at: a single module that re-exports the trainers, so that nnU-Net imports no more."""
