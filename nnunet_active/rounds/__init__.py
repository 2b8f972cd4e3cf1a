"""Rounds between trainings: which cases to label next, why, and what to do after that."""
