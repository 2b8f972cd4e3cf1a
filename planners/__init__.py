"""Planners: target plans from a trained source model alone."""
