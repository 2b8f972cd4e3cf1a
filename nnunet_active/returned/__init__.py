"""Finds, reads, checks and takes in the labels that come back."""
