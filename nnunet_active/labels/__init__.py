"""Labels that come back: files, grids, segments, checks, folds."""
