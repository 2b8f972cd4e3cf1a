"""The series in a folder of DICOM files, at any depth.

Nothing of a patient is kept but what tells one from another: the patient's ID and the UIDs, which stay out of messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from nnunet_active.data.dicom_planes import DicomPlane, planes_of, read_dicom_header
from nnunet_active.data.dicom_volume import DicomVolume, stack_planes
from nnunet_active.data.file_endings import is_special
from nnunet_active.util.errors import BadCase, MissingInput
from nnunet_active.util.progress import bar_is_shown


@dataclass
class DicomSeries:
    """The images of one series.

    Attributes:
        patient: the patient's ID, or the study's UID where that is empty.
        study: UID.
        uid: its own.
        date: of the study.
        modality: ``MR``, ``CT`` ...
        description: what the scanner's user called it; for people.
        planes: its images.
        copies: images that were there twice, with the same UID; each is taken once.
    """

    patient: str
    study: str
    uid: str
    date: str = ""
    modality: str = ""
    description: str = ""
    planes: list[DicomPlane] = field(default_factory=list)
    copies: int = 0
    _volume: DicomVolume | str | None = None

    def volume(self) -> DicomVolume:
        """The series as a volume.

        Raises:
            BadCase: it is none; the text is the end of a sentence that begins with the series.
        """
        if fault := self.fault():
            raise BadCase(fault)
        return self._volume

    def fault(self) -> str:
        """Why it is no volume; empty where it is one."""
        if self._volume is None:
            try:
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


def find_series(folder: Path) -> FoundSeries:
    """Read the headers of all DICOM files below a folder; hidden files and other kinds are passed over.

    Raises:
        MissingInput: there is no such folder, or no DICOM image in it.
    """
    if not Path(folder).is_dir():
        raise MissingInput(f"{folder} was not found; name the folder with the DICOM files.")
    found, by_uid, numbers, taken = FoundSeries(), {}, {}, {}
    files = [file for file in sorted(Path(folder).rglob("*")) if not file.name.startswith(".")]
    for file in tqdm(files, "Reading headers", disable=not bar_is_shown(), leave=False):
        if is_special(file) or not file.is_file():
            continue
        try:
            header = read_dicom_header(file)
            if header is None:
                continue
            if "Rows" not in header or header.get("Modality") in ("SEG", "RTDOSE"):
                found.others += 1
                continue
            planes = planes_of(header, file)
            patient, study = str(header.get("PatientID") or ""), str(header.StudyInstanceUID)
            key, number = (patient or study, study, str(header.SeriesInstanceUID)), int(header.get("SeriesNumber") or 0)
        except Exception:  # pydicom raises quite different things
            found.damaged.append(file)
            continue
        series = by_uid.get(key)
        if series is None:
            words = str(header.get("SeriesDescription") or header.get("ProtocolName") or "")
            about = (str(header.get(name) or "") for name in ("StudyDate", "Modality"))
            series = by_uid[key] = DicomSeries(*key, *about, " ".join(words.split()))
            numbers[key], taken[key] = number, set()
        new = [plane for plane in planes if plane.instance not in taken[key]]
        series.copies += len(planes) - len(new)
        series.planes += new
        taken[key].update(plane.instance for plane in new)
    if not by_uid:
        raise MissingInput(
            f"{folder} holds no DICOM images, at any depth; name the folder to which they were exported."
        )
    found.series = [by_uid[key] for key in sorted(by_uid, key=lambda k: (k[0], by_uid[k].date, k[1], numbers[k], k[2]))]
    return found
