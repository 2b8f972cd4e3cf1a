"""What to expect of predictions that nobody has checked: pure functions on tables of numbers."""
