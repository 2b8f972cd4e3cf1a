"""What an annotator gets: images, an editable prediction, an uncertainty map and a worklist, in the geometry of the original scan."""
