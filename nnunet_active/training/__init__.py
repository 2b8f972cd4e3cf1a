"""Queries between the epochs of any nnU-Net trainer."""
