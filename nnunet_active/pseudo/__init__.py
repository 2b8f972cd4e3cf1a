"""Pseudo-labels: predictions that are used for training."""
