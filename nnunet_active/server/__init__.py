"""A campaign for the MONAI Label module of 3D Slicer: a subset of its protocol, one scalar volume a case."""
