"""Retrospective comparison of query strategies: full adaptations through the real trainers, and what they show."""
