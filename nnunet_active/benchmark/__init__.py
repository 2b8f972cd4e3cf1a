"""Retrospective comparison of query strategies: full adaptations with the real trainers, and their evaluation."""
