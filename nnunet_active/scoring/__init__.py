"""Scores of whole cases: pure functions of tensors and arrays. Nothing here knows nnU-Net, a folder or a file."""
