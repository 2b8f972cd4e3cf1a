"""Raw scans, preprocessed cases, and how the one becomes the other."""
