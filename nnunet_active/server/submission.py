"""Receives a label that a client sends: keeps it in the campaign's folder, and lets ``ingest`` take it with all its checks.

The 3D Slicer module sends a label map whose values just number the segments, and their names separately. Names must decide, as
everywhere, so the voxels are saved as a segmentation with these names.
"""

from __future__ import annotations

import contextlib
import mmap
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
from nnunet_active.data.file_endings import NIFTI, SLICER_ENDING, SPATIAL_ENDINGS
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.gipl import ENDINGS as GIPL_ENDINGS
from nnunet_active.data.image_checks import count_not_finite
from nnunet_active.data.label_reader import last_line, whole_numbers
from nnunet_active.data.nifti import read_nifti_header
from nnunet_active.returned.ingest import ingest
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import BadCase
from nnunet_active.util.log import silent

FOLDER = "submitted"
_NRRD_DATA = re.compile(rb"data ?file\s*:", re.IGNORECASE)
_META_DATA = re.compile(rb"ElementDataFile", re.IGNORECASE)
_META_DATA_HERE = re.compile(rb"[\r\n]ElementDataFile *= *LOCAL *[\r\n]", re.IGNORECASE)
_ITK_READERS = {
    **dict.fromkeys(NIFTI, "NiftiImageIO"),
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    **dict.fromkeys(GIPL_ENDINGS, "GiplImageIO"),
}
"""The reader of ITK that each ending stands for. ITK itself chooses by the content, and some readers follow a path in the file."""
_OWN_VALUES = 30_000
"""Added to the values of a submitted label map, which only number its segments, so that they match no data set's values."""
_LARGEST = (
    4  # times the voxels of the image; a label in several layers or with a larger extent has more voxels than the image
)


@dataclass
class Received:
    """The outcome for a label.

    Attributes:
        taken: whether the campaign counts the label; otherwise it lies in ``labelsTr`` for the process that holds the campaign.
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
        case: the case of the label.
        image: the image that it was drawn on.
        sent: the file as it was sent.
        name: the client's file name; only its ending counts.
        segments: names of the values 1, 2, ...; None if the values are the data set's, or if the file names its segments.

    Raises:
        BadCase: the label is refused, with one sentence, and not kept.
        CampaignInUse: another process is taking labels right now.
    """
    dataset, fold, campaign, number = where
    (campaign / FOLDER).mkdir(exist_ok=True)
    # a separate folder, named after the case so that ingest finds it, and marked as checked
    kept = Path(tempfile.mkdtemp(dir=campaign / FOLDER, prefix=f"{case}__"))
    kept.chmod(0o755)
    try:
        place = kept / case / ACCEPTED
        place.mkdir(parents=True)
        # like a hand-off folder, it records its round: the annotator was not shown slices of later rounds
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
    """The sentence without the folder and the internal label values, which the annotator does not know."""
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
    _check_is_whole(case, target)
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
    """The label as whole numbers (Z, Y, X), and its geometry. Unreadable voxels are refused, not counted as background."""
    try:
        unusable = count_not_finite(file)
        content = sitk.ReadImage(str(file))
    except Exception as error:  # SimpleITK, nibabel and gzip raise many kinds of errors for a damaged file
        raise BadCase(f"{what} cannot be read ({_reason(error, file)}); send it again.") from error
    array, geometry = sitk.GetArrayFromImage(content), Geometry.of_itk(content)
    if unusable or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise BadCase(f"{what} has NaN or infinite voxels; send it again as a label map of integers.")
    if content.GetNumberOfComponentsPerPixel() > 1 or array.size != np.prod(geometry.size):
        raise BadCase(f"{what} has several values per voxel; send it again as a label map.")
    return whole_numbers(array.reshape(geometry.shape), what), geometry


def _reason(error: Exception, file: Path) -> str:
    """An image library's error message, without the folder that it read from."""
    return last_line(ValueError(str(error).replace(f"{file.parent}/", "") or type(error).__name__))[:80]


def _check_is_whole(case: str, file: Path) -> None:
    """Refuse a file that leads to another one: ITK would read any file of this machine, and its messages would tell of it."""
    if not file.stat().st_size:
        return  # refused by its size
    with file.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        leads = whole[:4] == b"NRRD" and _NRRD_DATA.search(whole) is not None
        if file.name.endswith(".mha") and (named := len(_META_DATA.findall(whole))):
            leads = named > 1 or _META_DATA_HERE.search(whole) is None
    if leads:
        raise BadCase(
            f"Case {case}: the label's voxels are in another file, which is not taken here; send them in one file."
        )
    _check_format(case, file)


def _check_format(case: str, file: Path) -> None:
    """Refuse content of another format than the ending says; HDF5, for one, may hold the path of a file with the voxels."""
    ending, reader = next((ending, reader) for ending, reader in _ITK_READERS.items() if file.name.endswith(ending))
    fits = sitk.ImageFileReader.GetImageIOFromFileName(str(file)) == reader
    if fits and ending in NIFTI:
        try:
            # ITK would take a text in place of the header, too, which may name a file with the voxels
            read_nifti_header(file)
        except (ValueError, OSError):
            fits = False
    if not fits:
        raise BadCase(
            f"Case {case}: the label cannot be read (its content is not that of a {ending} file); send it again."
        )


def _check_size(case: str, image: Path, file: Path) -> None:
    """Check the size in the header before the voxels are unpacked: a small file may unpack to a huge image."""
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
