"""Rounds between trainings: which cases next, what comes after that, and why."""
