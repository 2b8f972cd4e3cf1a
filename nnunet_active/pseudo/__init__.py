"""Predictions that can be trained on."""
