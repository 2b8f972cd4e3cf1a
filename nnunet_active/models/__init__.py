"""Trained networks: found, read, mapped onto a target, handed on."""
