"""Which image files a prediction was made from, so that an image that was replaced by another of the same size is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_active.annotation.records import file_sha256
from nnunet_active.data.cases import size_and_time
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.state_file import read_state


@dataclass
class ImageRecord:
    """One channel's file: its size in bytes, modification time in ns, and SHA-256 (hex) of its bytes."""

    size: int
    time: int
    sha256: str


def record_file(folder: Path, case: str) -> Path:
    """The file in which an archive keeps the record of a case; no case has a name that begins with a dot."""
    return folder / f".{case}.image.json"


def write_image_record(file: Path, images: Sequence[Path]) -> None:
    """Write down what the image files are now, channel by channel."""
    write_json(file, [asdict(ImageRecord(*size_and_time(image), file_sha256(image))) for image in images])


def is_of_these(file: Path, images: Sequence[Path]) -> bool:
    """Whether the recorded images are these files as they are now; also True if nothing was recorded, as in earlier versions.

    A copy with another modification time is the same image: only then are its bytes read.
    """
    try:
        known = read_state(file, list[ImageRecord], "the record of an image")
    except (CampaignError, OSError):
        return True
    return len(known) == len(images) and all(_is_same(*pair) for pair in zip(known, images, strict=True))


def _is_same(known: ImageRecord, image: Path) -> bool:
    try:
        size, time = size_and_time(image)
        return size == known.size and (time == known.time or file_sha256(image) == known.sha256)
    except OSError:  # told by whoever reads the image
        return True
