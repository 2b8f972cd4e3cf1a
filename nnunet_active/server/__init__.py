"""Serves a campaign to the MONAI Label module of 3D Slicer: a subset of its protocol, with one scalar volume per case."""
