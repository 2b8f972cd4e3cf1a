"""The hand-off to an annotator: images, an editable prediction, an uncertainty map and a worklist, in the original scan's geometry."""
