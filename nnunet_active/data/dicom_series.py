"""The series in a folder of DICOM files, at any depth.

Of the patient, only the patient's ID and the UIDs are kept, to tell patients apart; they stay out of messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from nnunet_active.data.dicom_planes import DicomPlane, planes_of, read_dicom_header, without_warnings
from nnunet_active.data.dicom_volume import DicomVolume, stack_planes
from nnunet_active.data.file_endings import is_special
from nnunet_active.util.errors import BadCase, MissingInput
from nnunet_active.util.folders import files_below
from nnunet_active.util.progress import bar_is_shown


@dataclass
class DicomSeries:
    """The images of one series.

    Attributes:
        patient: the patient's ID, or the study's UID if the ID is empty.
        study: its UID.
        uid: the UID of the series.
        date: of the study.
        modality: ``MR``, ``CT`` ...
        description: what the scanner's operator called it; for people.
        planes: its images.
        copies: number of duplicate images with the same UID; each image is used once.
        mixed: whether its images have different patient IDs.
        reused: whether images of different places have the same UID.
    """

    patient: str
    study: str
    uid: str
    date: str = ""
    modality: str = ""
    description: str = ""
    planes: list[DicomPlane] = field(default_factory=list)
    copies: int = 0
    mixed: bool = False
    reused: bool = False
    _volume: DicomVolume | str | None = None

    def volume(self) -> DicomVolume:
        """The series as a volume.

        Raises:
            BadCase: it is no volume; the text is the end of a sentence that begins with the series.
        """
        if fault := self.fault():
            raise BadCase(fault)
        return self._volume

    def fault(self) -> str:
        """Why it is no volume; empty if it is one."""
        if self._volume is None:
            try:
                if self.mixed:
                    raise BadCase("has images with different patients' IDs; keep those of one patient in the folder")
                if self.reused:
                    raise BadCase(
                        "has images of different places with the same SOPInstanceUID, as some anonymisers leave them; anonymise it "
                        "again, with a UID for each image"
                    )
                self._volume = stack_planes(self.planes)
            except BadCase as error:
                self._volume = str(error)
        return self._volume if isinstance(self._volume, str) else ""

    def notes(self) -> list[str]:
        """What is odd about it, each the end of a sentence that begins with the series."""
        copies = [f"has {self.copies} image(s) twice; each is taken once"] if self.copies else []
        return copies + list(dict.fromkeys(plane.note for plane in self.planes if plane.note))

    def size(self) -> str:
        """Voxels and mm, for people."""
        if self.fault():
            rows, columns = self.planes[0].shape
            return f"{columns} x {rows}"
        grid = self.volume().grid
        return " x ".join(map(str, grid.size)) + " of " + " x ".join(f"{n:.4g}" for n in grid.spacing) + " mm"


@dataclass
class FoundSeries:
    """What a folder holds.

    Attributes:
        series: by patient, study and number.
        others: DICOM files that are no images.
        damaged: DICOM files that cannot be read.
    """

    series: list[DicomSeries] = field(default_factory=list)
    others: int = 0
    damaged: list[Path] = field(default_factory=list)


def _shown(words: str) -> str:
    """Clean text for a terminal or a table cell: no outer blanks, line breaks or control characters."""
    return "".join(one for one in " ".join(words.split()) if one.isprintable())


def find_series(folder: Path) -> FoundSeries:
    """Read the headers of all DICOM files below a folder; hidden files and other formats are skipped.

    Raises:
        MissingInput: the folder does not exist, or holds no DICOM image.
    """
    if not Path(folder).is_dir():
        raise MissingInput(f"{folder} was not found; name the folder with the DICOM files.")
    found, by_uid, numbers, taken = FoundSeries(), {}, {}, {}
    files = [file for file in files_below(folder) if not file.name.startswith(".")]
    for file in tqdm(files, "Reading headers", disable=not bar_is_shown(), leave=False):
        if is_special(file) or not file.is_file():
            continue
        try:
            with without_warnings():
                read = _read(file)
        except Exception:  # pydicom raises very different errors
            found.damaged.append(file)
            continue
        if read is None:
            continue
        one, number = read
        if not one.planes:
            found.others += 1
            continue
        key = (one.study, one.uid)
        series = by_uid.setdefault(key, replace(one, planes=[]))
        numbers.setdefault(key, number)
        there = taken.setdefault(key, {})
        for plane in one.planes:
            before = there.setdefault(plane.instance, plane)
            if before is not plane and before.lies_where(plane):
                series.copies += 1
                continue
            series.reused |= before is not plane
            series.planes.append(plane)
        series.mixed |= series.patient != one.patient
    if not by_uid:
        raise MissingInput(
            f"{folder} holds no DICOM images, at any depth; name the folder to which they were exported."
        )
    found.series = [
        by_uid[key] for key in sorted(by_uid, key=lambda k: (by_uid[k].patient, by_uid[k].date, k[0], numbers[k], k[1]))
    ]
    return found


def _read(file: Path) -> tuple[DicomSeries, int] | None:
    """One file's contribution to its series (without a plane if it is no image), and the series number; None if it is not DICOM."""
    header = read_dicom_header(file)
    if header is None:
        return None
    is_image = "Rows" in header and header.get("Modality") not in ("SEG", "RTDOSE")
    planes = planes_of(header, file) if is_image else []
    patient, study = _shown(str(header.get("PatientID") or "")), str(header.get("StudyInstanceUID", ""))
    date, modality = (str(header.get(name) or "") for name in ("StudyDate", "Modality"))
    words = _shown(str(header.get("SeriesDescription") or header.get("ProtocolName") or ""))
    uid, number = str(header.get("SeriesInstanceUID", "")), int(header.get("SeriesNumber") or 0)
    if is_image and not (study and uid):
        raise ValueError("it does not say to which series it belongs")
    return DicomSeries(patient or study, study, uid, date, modality, words, planes), number
