"""Labels that come back: found, read, checked, taken in."""
