"""The reader of the target's images: a network must see images turned as those were that it learned from."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES, determine_reader_writer_from_dataset_json

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.models.source_model import SourceModel
from nnunet_active.util.errors import ActiveError

_EXAMPLES = 5  # images that are tried to find a reader; the first may be damaged


def choose_reader(dataset: RawDataset, sources: Sequence[SourceModel], notes: list[str]) -> str:
    """Class name of a reader of nnU-Net's: the one that ``dataset.json`` names, else the sources', else nnU-Net's choice.

    Args:
        dataset: the target; its first few images are tried. Without any, the reader is a guess.
        sources: their plans name the reader that their images were read with; it is taken if it can read the target's, since another
            reader may turn the axes.
        notes: gets a sentence where the reader is a guess, or not the one that ``dataset.json`` names.

    Raises:
        ActiveError: nnU-Net has no reader for the data set's file ending.
    """
    images = [case.images[0] for case in dataset.cases.values()][:_EXAMPLES]
    wanted = dataset.dataset_json.get("overwrite_image_reader_writer")
    if wanted in (None, "None") and (found := _of_sources(dataset, sources, images)) is not None:
        return found
    for image in [*map(str, images), None]:
        # nnU-Net prints a traceback for every reader that does not fit
        with contextlib.suppress(RuntimeError), contextlib.redirect_stderr(io.StringIO()):
            found = determine_reader_writer_from_dataset_json(dataset.dataset_json, image, verbose=False).__name__
            if image is None and images:
                notes.append(f"None of the first {len(images)} images could be read; the reader is a guess.")
            if wanted not in (None, "None", found):
                notes.append(
                    f"dataset.json names the image reader {wanted}, which this nnU-Net does not have; {found} is used."
                )
            return found
    raise ActiveError(
        f"nnU-Net has no reader for files ending in {dataset.file_ending} ({dataset.folder}); "
        f"correct file_ending in dataset.json or convert the images."
    )


def _of_sources(dataset: RawDataset, sources: Sequence[SourceModel], images: Sequence[Path]) -> str | None:
    """The sources' reader; None if nnU-Net does not have it, or it reads none of the images."""
    named = {source.plans.get("image_reader_writer") for source in sources}
    for reader in LIST_OF_IO_CLASSES:
        if reader.__name__ not in named or dataset.file_ending.lower() not in reader.supported_file_endings:
            continue
        if not images:
            return reader.__name__
        for image in images:
            # a library may raise anything, and prints what it thinks of the file
            with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
                reader().read_images([str(image)])
                return reader.__name__
    return None
