"""Raw scans, preprocessed cases, and the way from one to the other."""
