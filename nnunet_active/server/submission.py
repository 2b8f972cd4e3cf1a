"""A label that a client sends: kept in the campaign's folder, and taken by ``ingest`` with all its checks.

The module of 3D Slicer sends a label map whose values count the segments, and their names beside it. So that names decide, as
everywhere, the voxels are kept as a segmentation with these names.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_active.annotation.label_colours import Label
from nnunet_active.annotation.mitk_tasks import ACCEPTED
from nnunet_active.annotation.records import FORMAT, HANDOFF_FILE
from nnunet_active.annotation.seg_nrrd import write_seg_nrrd
from nnunet_active.data.file_endings import SLICER_ENDING, SPATIAL_ENDINGS
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.image_checks import count_not_finite
from nnunet_active.data.label_reader import last_line, whole_numbers
from nnunet_active.returned.ingest import ingest
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import BadCase
from nnunet_active.util.log import silent

FOLDER = "submitted"
_OWN_VALUES = 30_000
"""Values of a submitted label map say nothing but the order of its segments: they are kept as others than any data set has."""
_LARGEST = 4  # times the voxels of the image; a label in several layers, or in a larger box, has more than the image


@dataclass
class Received:
    """What became of a label.

    Attributes:
        taken: whether the campaign counts it; else it lies in ``labelsTr`` for whoever holds the campaign.
        notes: sentences for the annotator.
    """

    taken: bool
    notes: list[str] = field(default_factory=list)


def receive(
    where: tuple[str, str, Path, int], case: str, image: Path, sent: Path, name: str, segments: Sequence[str] | None
) -> Received:
    """Take a label.

    Args:
        where: data set, fold and folder of the campaign, and the number of the round that the label answers.
        case: whose label it is.
        image: that it was drawn on.
        sent: the file as it was sent.
        name: that the client gave it; only its ending counts.
        segments: names of the values 1, 2 ...; None: the values are the data set's, or the file names its segments.

    Raises:
        BadCase: it is refused; one sentence. Nothing of it is kept.
        CampaignInUse: another process takes labels at this moment.
    """
    dataset, fold, campaign, number = where
    (campaign / FOLDER).mkdir(exist_ok=True)
    # a folder of its own: named after the case, for whoever looks for labels, and marked as checked
    kept = Path(tempfile.mkdtemp(dir=campaign / FOLDER, prefix=f"{case}__"))
    kept.chmod(0o755)
    try:
        place = kept / case / ACCEPTED
        place.mkdir(parents=True)
        # it says of which round it is as a hand-off folder does: slices that a later one asks for were not shown
        write_json(
            kept / HANDOFF_FILE, {"format": FORMAT, "dataset": dataset, "fold": fold, "round": number, "cases": {}}
        )
        _keep(case, image, sent, place, _ending(case, name), segments)
        report = ingest(dataset, fold, [kept], log=silent)
        if case in report.refused:
            raise BadCase(_told(report.refused[case], place))
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    notes = [*report.warnings.get(case, ()), *report.notes]
    return Received(case not in report.delivered, [_told(note, place) for note in notes])


def _told(sentence: str, place: Path) -> str:
    """For somebody who knows neither the folder nor the values."""
    return re.sub(rf" \(label value {_OWN_VALUES // 1000}\d{{3}}\)", "", sentence.replace(f"{place}/", ""))


def _ending(case: str, name: str) -> str:
    endings = sorted((SLICER_ENDING, *SPATIAL_ENDINGS), key=len, reverse=True)
    found = next((one for one in endings if name.lower().endswith(one)), None)
    if found in (None, ".nhdr", ".mhd"):  # their voxels are in another file
        raise BadCase(
            f"Case {case}: the label was sent in a format that is not taken here; choose .nii.gz or .nrrd in the module's settings."
        )
    return found


def _keep(case: str, image: Path, sent: Path, place: Path, ending: str, segments: Sequence[str] | None) -> None:
    target = place / f"{case}{ending}"
    shutil.copyfile(sent, target)
    _check_size(case, image, target)
    if segments is None or ending == SLICER_ENDING:
        return
    array, geometry = _label_map(f"Case {case}: the label", target)
    if array.max(initial=0) > len(segments):
        raise BadCase(
            f"Case {case}: the label has values from {array.min()} to {array.max()}, but names for {len(segments)} segment(s); send it "
            f"again."
        )
    names = [Label(_OWN_VALUES + value, name, (128, 174, 128)) for value, name in enumerate(segments, 1)]
    array = np.where(array > 0, array + np.uint16(_OWN_VALUES), np.uint16(0))
    write_seg_nrrd(array, names, geometry, place / f"{case}{SLICER_ENDING}")
    with contextlib.suppress(FileNotFoundError):
        target.unlink()


def _label_map(what: str, file: Path) -> tuple[np.ndarray, Geometry]:
    """Whole numbers (Z, Y, X) and where they lie: nothing goes past the names, and nothing that the file lost counts as background."""
    try:
        unusable = count_not_finite(file)
        content = sitk.ReadImage(str(file))
    except Exception as error:  # SimpleITK, nibabel and gzip raise quite different things for a damaged file
        raise BadCase(f"{what} cannot be read ({_reason(error, file)}); send it again.") from error
    array, geometry = sitk.GetArrayFromImage(content), Geometry.of_itk(content)
    if unusable or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise BadCase(f"{what} has NaN or infinite voxels; send it again as a label map of integers.")
    if content.GetNumberOfComponentsPerPixel() > 1 or array.size != np.prod(geometry.size):
        raise BadCase(f"{what} has several values per voxel; send it again as a label map.")
    return whole_numbers(array.reshape(geometry.shape), what), geometry


def _reason(error: Exception, file: Path) -> str:
    """What an image library complained of, without the folder that it read from."""
    return last_line(ValueError(str(error).replace(f"{file.parent}/", "") or type(error).__name__))[:80]


def _check_size(case: str, image: Path, file: Path) -> None:
    """Look at the header before the voxels are unpacked: a small file may become a large image."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        voxels = int(np.prod([int(n) for n in reader.GetSize()], dtype=object)) * reader.GetNumberOfComponents()
        most = _LARGEST * int(np.prod(Geometry.of_file(image).size))
    except (RuntimeError, ValueError) as error:
        raise BadCase(f"Case {case}: the label cannot be read ({_reason(error, file)}); send it again.") from error
    if voxels > most:
        raise BadCase(
            f"Case {case}: the label has {voxels} voxels, far more than its image; it seems to belong to another."
        )
