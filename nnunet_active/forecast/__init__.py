"""Estimates the quality of predictions that nobody has checked: pure functions on tables of numbers."""
