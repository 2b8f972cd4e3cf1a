"""Write cases from DICOM series in nnU-Net's raw format, under pseudonyms. A case is written whole or not at all; nothing is replaced.

Only voxels and their geometry are written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_active.data.dicom_series import DicomSeries
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.itk_files import write_itk
from nnunet_active.util.atomic import sweep, temporary_folder
from nnunet_active.util.errors import BadCase
from nnunet_active.util.log import Log, silent


@dataclass
class DicomImport:
    """What became of the cases.

    Attributes:
        written: cases that are new.
        there: cases whose files all existed already, and hold what the table says where its series are at hand.
        problems: case -> sentence; nothing of these cases was written.
        notes: case -> sentences.
    """

    written: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


class DicomCases:
    """The raw data set that receives the cases.

    Args:
        folder: ``nnUNet_raw/DatasetXXX``.
        channels: their names, in order.
        ending: of the image files; a format that stores the geometry.
        found: the series at hand.
    """

    def __init__(self, folder: Path, channels: Sequence[str], ending: str, found: Sequence[DicomSeries]) -> None:
        self.images, self.channels, self.ending = folder / "imagesTr", list(channels), ending
        self.found = {(one.study, one.uid): one for one in found}

    def write(self, cases: Mapping[str, Mapping[int, tuple[str, str]]], log: Log = silent) -> DicomImport:
        """Write the cases that are missing.

        Args:
            cases: case -> channel number -> UIDs of study and series.
            log: gets a line for each case.
        """
        result = DicomImport()
        self.images.mkdir(exist_ok=True)
        sweep(self.images)  # left over from runs that were killed
        for case, places in cases.items():
            try:
                if all(self._file(case, number).is_file() for number in range(len(self.channels))):
                    self._check_there(case, places)
                    result.there.append(case)
                    continue
                series = self._series(case, places)
                self._check_grids(case, series)
                self._write(case, series)
            except BadCase as error:
                result.problems[case] = str(error)
                log(str(error))
                continue
            result.written.append(case)
            said = [
                f"{name}: the series {note}."
                for name, one in zip(self.channels, series, strict=True)
                for note in one.notes()
            ]
            if said:
                result.notes[case] = said
            log(f"{case} is written.")
        return result

    def names(self) -> list[str]:
        """The cases in the data set, whoever made them."""
        end = re.compile(rf"([^.].*)_\d{{4}}{re.escape(self.ending)}")
        files = self.images.iterdir() if self.images.is_dir() else ()
        return sorted({match[1] for file in files if (match := end.fullmatch(file.name))})

    def _file(self, case: str, channel: int) -> Path:
        return self.images / f"{case}_{channel:04d}{self.ending}"

    def _series(self, case: str, places: Mapping[int, tuple[str, str]]) -> list[DicomSeries]:
        absent = [name for number, name in enumerate(self.channels) if number not in places]
        if absent:
            raise BadCase(
                f"Case {case} has no series for {', '.join(absent)}; name one in the table, or leave the case out."
            )
        series = []
        for number, name in enumerate(self.channels):
            one = self.found.get(places[number])
            if one is None:
                raise BadCase(
                    f"Case {case}: the series for {name} is not in the folder; name the folder that holds it."
                )
            if fault := one.fault():
                raise BadCase(f"Case {case}: the series for {name} {fault}.")
            series.append(one)
        if len({one.patient for one in series}) > 1:
            raise BadCase(f"Case {case}: its series are of different patients; correct the column case of the table.")
        return series

    def _check_there(self, case: str, places: Mapping[int, tuple[str, str]]) -> None:
        """Whoever corrects the table after an import must hear that the images are still those of before. Scans that are elsewhere
        now cannot be compared."""
        for number, place in sorted(places.items()):
            if (one := self.found.get(place)) is not None:
                self._check_same(case, number, one, self._voxels(case, number, one))

    def _voxels(self, case: str, number: int, series: DicomSeries) -> np.ndarray:
        try:
            return series.volume().read()
        except BadCase as error:
            raise BadCase(f"Case {case}: the series for {self.channels[number]} {error}.") from error

    def _check_same(self, case: str, number: int, series: DicomSeries, voxels: np.ndarray) -> None:
        file = self._file(case, number)
        if not holds_the_same(file, voxels, series.volume().grid):
            raise BadCase(
                f"Case {case}: {file} is there and is not the image that the table's series for {self.channels[number]} holds; it is "
                f"not replaced: correct the table, or move the case's images away and import again."
            )

    def _check_grids(self, case: str, series: Sequence[DicomSeries]) -> None:
        first = series[0].volume().grid
        for name, one in zip(self.channels[1:], series[1:], strict=True):
            grid = one.volume().grid
            if grid.size != first.size:
                why = f"has {_by(grid.size)} voxels, that for {self.channels[0]} {_by(first.size)}"
            elif not first.fits(grid):
                why = f"lies {first.difference(grid)} from that for {self.channels[0]}"
            else:
                continue
            raise BadCase(
                f"Case {case}: the series for {name} {why}; choose series of one grid, or resample one yourself (here nothing is "
                f"resampled)."
            )

    def _write(self, case: str, series: Sequence[DicomSeries]) -> None:
        done: list[Path] = []
        with temporary_folder(self.images / case) as temporary:
            new = []
            for number, one in enumerate(series):
                target = self._file(case, number)
                voxels = self._voxels(case, number, one)
                if target.exists():  # from a run killed between two channels, or somebody else's
                    self._check_same(case, number, one, voxels)
                    continue
                new.append((temporary / target.name, target))
                _write_image(new[-1][0], voxels, one.volume().grid)
                if not one.volume().grid.fits(Geometry.of_file(new[-1][0])):
                    raise BadCase(
                        f"Case {case}: files that end in {self.ending} cannot say how the series for {self.channels[number]} is "
                        f"turned; set file_ending in dataset.json to .nii.gz."
                    )
            try:
                for made, target in new:
                    _put(made, target)
                    done.append(target)
            except BaseException:
                for target in done:
                    target.unlink(missing_ok=True)
                raise


def _write_image(file: Path, voxels: np.ndarray, grid: Geometry) -> None:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    write_itk(image, file)
    with file.open("rb+") as content:
        os.fsync(content.fileno())


def _put(made: Path, target: Path) -> None:
    """Never overwrites a file, even if another process has just written it."""
    try:
        os.link(made, target)
    except FileExistsError:
        raise BadCase(f"{target} has appeared in the meantime; it is not replaced.") from None
    except OSError:  # a file system without links
        if target.exists():
            raise BadCase(f"{target} has appeared in the meantime; it is not replaced.") from None
        os.rename(made, target)


def holds_the_same(file: Path, voxels: np.ndarray, grid: Geometry) -> bool:
    """Whether an image file has exactly these voxels (Z, Y, X) on this grid."""
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError:
        return False
    there = Geometry.of_itk(image)
    return there.size == grid.size and grid.fits(there) and np.array_equal(sitk.GetArrayFromImage(image), voxels)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
