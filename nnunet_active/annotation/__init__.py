"""What an annotator gets: images, an editable prediction, an uncertainty map and a worklist, in the geometry of the original scan."""

from nnunet_active.annotation.archive import Archive
from nnunet_active.annotation.handoff import write_handoff
from nnunet_active.annotation.records import (
    HANDOFF_FILE,
    AskedSlices,
    HandoffCase,
    HandoffReport,
    read_handoff,
    voxel_digest,
)

__all__ = [
    "HANDOFF_FILE",
    "Archive",
    "AskedSlices",
    "HandoffCase",
    "HandoffReport",
    "read_handoff",
    "voxel_digest",
    "write_handoff",
]
