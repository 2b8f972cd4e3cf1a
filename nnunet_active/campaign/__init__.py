"""A campaign: its settings, rounds, folds and splits."""
