"""One case's folder in a hand-off folder: written atomically, completed if files are missing, never changed where a person worked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_active.annotation.archive import Archive, Archived
from nnunet_active.annotation.image_record import is_of_these, record_file
from nnunet_active.annotation.itksnap import Layer, workspace
from nnunet_active.annotation.label_colours import Label
from nnunet_active.annotation.mitk_tasks import ACCEPTED
from nnunet_active.annotation.records import CaseRecord, HandoffCase, begun_file, file_sha256, voxel_digest
from nnunet_active.annotation.seg_nrrd import write_seg_nrrd
from nnunet_active.annotation.slices_to_check import worth_looking
from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.geometry import Geometry, size_then_and_now
from nnunet_active.data.image_headers import channels_apart
from nnunet_active.data.label_definitions import IGNORE
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.label_writer import copy_label, write_label
from nnunet_active.data.maps import read_in_file_order
from nnunet_active.data.partial_labels import keep_slices, merge_slices
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.util.atomic import atomic_file, copy_file, write_json, write_text
from nnunet_active.util.errors import ActiveError, BadCase
from nnunet_active.util.state_file import conforms, read_checked_json

RECORD = ".case.json"  # in the case's own folder, so that folder and record appear in one step


class CaseFolder:
    """Files of one case.

    Args:
        folder: the hand-off folder.
        case: the case.
        channels: names of the channels.
        labels: names and colours of the labels.
        archive: gives the prediction; knows the data set's file format.
    """

    def __init__(
        self, folder: Path, case: HandoffCase, channels: list[str], labels: list[Label], archive: Archive
    ) -> None:
        self.dataset_json, ending, reader = archive.dataset_json, archive.ending, archive.reader
        self.case = case
        self.name = case.raw.identifier
        self.folder = folder / self.name
        self.ending = ending
        self.channels = channels
        self.labels = labels
        self.reader = reader
        self.label_name = f"{self.name}{ending}"
        self.segmentation_name = f"{self.name}.seg.nrrd"
        self.context_name = f"{self.name}_prediction{ending}"
        self.begun_file = begun_file(archive.folder, self.name, ending)
        self.image_record = record_file(archive.folder, self.name)

    def read_record(self, known: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The record made when the case was handed over; if it is damaged, the entry of ``handoff.json``; None if both are."""
        try:
            return read_checked_json(self.folder / RECORD, CaseRecord, "the record of a case")
        except ActiveError:
            return known if known is not None and not conforms(known, CaseRecord) else None

    def check_image(self, edited: bool) -> None:
        """Check that the image is still the one that was handed over with its prediction.

        Args:
            edited: whether somebody worked on the label; then an image of the same size will do, and ``ingest`` warns.

        Raises:
            BadCase: it has another size, or was replaced by another image of the same size.
        """
        again = f"move {self.folder} away to have it handed over again"
        if differ := size_then_and_now(self.folder / self.label_name, self.case.raw.images[0]):
            raise BadCase(
                f"Case {self.name}: its image has changed since it was handed over ({differ[0]} voxels then, {differ[1]} now); "
                f"{again}."
            )
        if not edited and not is_of_these(self.image_record, self.case.raw.images):
            raise BadCase(
                f"Case {self.name}: its image was replaced since it was handed over, and the prediction there is of the image before; "
                f"{again}."
            )

    def is_edited(self, entry: dict[str, Any]) -> bool:
        """Whether somebody changed or accepted one of the two label files; a file that cannot be read counts as changed."""
        # programs that show folders leave hidden files there, like .DS_Store
        if any(not file.name.startswith(".") for file in (self.folder / ACCEPTED).glob("*")):
            return True
        label, segmentation = self.folder / self.label_name, self.folder / self.segmentation_name
        if segmentation.is_file() and file_sha256(segmentation) != entry["segmentation_sha256"]:
            return True
        if not label.is_file() or file_sha256(label) == entry["label_sha256"]:
            return False
        try:
            return voxel_digest(read_in_file_order(label, self.ending, self.reader)) != entry["digest"]
        except Exception:  # image libraries raise many kinds of errors
            return True

    def images(self) -> dict[str, Path]:
        """The image files, by their file names in the folder."""
        return {f"{self.name}_{index:04d}{self.ending}": file for index, file in enumerate(self.case.raw.images)}

    def place_images(self, place: Path, copy_images: bool) -> None:
        """Link or copy the images into ``place``.

        With ``copy_images``, links become copies. A link that leads elsewhere, e.g. after the data set was copied, is made again.
        """
        for name, file in self.images().items():
            target = place / name
            if target.is_file() and not (target.is_symlink() and (copy_images or not target.samefile(file))):
                continue
            if not copy_images:
                target.unlink(missing_ok=True)
                try:
                    target.symlink_to(_from(place, file))
                    continue
                except OSError:
                    pass  # ordinary users cannot make links on Windows and some network drives
            copy_file(file, target)

    def write(self, place: Path, archived: Archived, round_number: int | None) -> dict[str, Any]:
        """Write everything but the images into ``place`` and return the record.

        Args:
            place: an empty folder that becomes the case's folder.
            archived: the prediction.
            round_number: written into the record.
        """
        space = Geometry.of_file(self.case.raw.images[0], archived.label.shape)
        self._fill(place, archived, space)
        if self.case.asked is not None:
            # to compare a returned label with it, wherever the folder is by then
            copy_label(place / self.label_name, self.begun_file)
        (place / ACCEPTED).mkdir()
        entry = self._record(place, archived, space, round_number)
        write_json(place / RECORD, entry)
        return entry

    def complete(self, archived: Callable[[], Archived], entry: dict[str, Any]) -> None:
        """Write missing files of the case's folder; existing files are not changed."""
        (self.folder / ACCEPTED).mkdir(exist_ok=True)
        names = [self.label_name, self.segmentation_name, Path(entry["uncertainty_file"]).name]
        names += [self.context_name] if self.case.asked is not None else []
        if carries_geometry(self.ending):
            names.append(f"{self.name}.itksnap")
        if all((self.folder / name).is_file() for name in names):
            return
        found = archived()
        self._fill(self.folder, found, Geometry.of_file(self.case.raw.images[0], found.label.shape))

    def begun_with(self, archived: Archived) -> np.ndarray:
        """The label that the annotator starts from, (Z, Y, X): the prediction. If slices are asked for, it holds the prediction in
        these slices, the labels in slices of earlier rounds, and the ignore value elsewhere. Once recorded, it never changes: a folder
        that is written again starts from the same label, whatever was corrected since.

        Raises:
            BadCase: the label so far cannot be read, or does not fit the image.
        """
        asked = self.case.asked
        if asked is None:
            return archived.label
        if (noted := self._noted(archived)) is not None:
            return noted
        before = None if asked.before is None else self._read_label(asked.before)
        axis = NUMPY_AXIS[asked.axis]
        new = keep_slices(archived.label, axis, asked.slices, asked.ignore)
        try:
            merged = merge_slices(before, new, axis, asked.slices, asked.ignore).label
        except ValueError as error:
            raise BadCase(f"Case {self.name}: {asked.before} does not have the size of its image ({error}).") from error
        return merged.astype(np.uint8 if merged.max(initial=0) < 256 else np.uint16)

    def _noted(self, archived: Archived) -> np.ndarray | None:
        """The label that the annotator first started from; None if not known, or if the case was predicted again since."""
        asked = self.case.asked
        if not self.begun_file.is_file():
            return None
        try:
            noted = self._read_label(self.begun_file)
        except BadCase:
            return None
        axis = NUMPY_AXIS[asked.axis]
        shown, predicted = (keep_slices(one, axis, asked.slices, asked.ignore) for one in (noted, archived.label))
        return noted if np.array_equal(shown, predicted) else None

    def _read_label(self, file: Path) -> np.ndarray:
        """A label in the image's voxel order. A file that a person saved may have other axes, another extent or another format."""
        image = self.case.raw.images[0]
        return read_label(self.name, file, image, self.dataset_json, self.reader, self.ending).voxels

    def _fill(self, place: Path, archived: Archived, space: Geometry) -> None:
        label, asked = self.begun_with(archived), self.case.asked
        copies = {archived.uncertainty_file: archived.uncertainty_file.name}
        if asked is None:
            copies |= {file: file.name for file in (*archived.companions, archived.label_file)}
        else:
            copies[archived.label_file] = self.context_name
            if not (place / self.label_name).is_file():
                image = self.case.raw.images[0]
                write_label(self.name, label, place / self.label_name, image, self.dataset_json, self.reader)
        for file, name in copies.items():
            if not (place / name).is_file():
                copy_file(file, place / name)
        if not (place / self.segmentation_name).is_file():
            nrrd = self.case.raw.images[0] if self.ending.lower() == ".nrrd" else None
            # in 3D Slicer, a segment of the ignore value would cover everything outside the requested slices
            shown = label if asked is None else np.where(label == asked.ignore, 0, label).astype(label.dtype)
            with atomic_file(place / self.segmentation_name) as temporary:
                write_seg_nrrd(shown, self.labels, space, temporary, nrrd)
        file = place / f"{self.name}.itksnap"
        if carries_geometry(self.ending) and not file.is_file():
            write_text(file, self._workspace(archived, space))

    def _workspace(self, archived: Archived, space: Geometry) -> str:
        names = dict(zip(self.images(), self.channels, strict=False))
        first = next((name for name, channel in names.items() if channel == self.case.open_first), next(iter(names)))
        order = [first, *(name for name in names if name != first)]
        layers = [Layer(self.folder / name, names[name]) for name in order]
        layers.append(Layer(self.folder / archived.uncertainty_file.name, "uncertainty", "Hot", sticky=True))
        if self.case.asked is not None:
            layers.append(Layer(self.folder / self.context_name, "prediction in all slices", "Jet", sticky=True))
        return workspace(self.folder, layers, self.folder / self.label_name, self.labels, space.size)

    def _record(self, place: Path, archived: Archived, space: Geometry, round_number: int | None) -> dict[str, Any]:
        looking = worth_looking(archived.label, archived.uncertainty, space.spacing)
        planes, asked = space.planes(), self.case.asked
        return {
            "label_file": f"{self.name}/{self.label_name}",
            "digest": voxel_digest(self.begun_with(archived)),
            "label_sha256": file_sha256(place / self.label_name),
            "segmentation_file": f"{self.name}/{self.segmentation_name}",
            "segmentation_sha256": file_sha256(place / self.segmentation_name),
            "uncertainty_file": f"{self.name}/{archived.uncertainty_file.name}",
            "images": [
                {"file": f"{self.name}/{name}", "channel": channel}
                for name, channel in zip(self.images(), self.channels, strict=False)
            ],
            "channels_apart": channels_apart(self.case.raw.images),
            "open_first": self.case.open_first,
            **(
                {}
                if asked is None
                else {"asked": asked.entry(space), "prediction_file": f"{self.name}/{self.context_name}"}
            ),
            "rank": self.case.rank,
            "round": round_number,
            # counted from 1, for people; a 2-D image has no slices to choose
            "slices": {
                plane: [index + 1 for index in found]
                for plane, found, length in zip(planes, looking.slices, space.size, strict=True)
                if 1 not in space.size and found and length > 1
            },
            "axes": dict(zip(planes, "xyz", strict=True)),
            "most_uncertain": {
                "voxel": list(looking.voxel),
                "position_mm": list(space.position(looking.voxel)),
                "mean_nats": round(looking.nats, 4),
            },
            "volumes_mm3": {
                label.name: round(float((archived.label == label.value).sum()) * space.voxel_mm3, 3)
                for label in self.labels
                if label.name != IGNORE
            },
        }


def _from(place: Path, image: Path) -> str:
    """Where a link leads: in the hand-off folder of a data set from there, so that both can be moved together; but not where
    ``annotate`` is itself a link, e.g. to another disk."""
    image, place = Path(os.path.abspath(image)), Path(os.path.abspath(place))
    dataset = image.parent.parent
    beside = len(place.parents) > 2 and place.parents[2] == dataset  # annotate/fold_F_round_NNN/CASE
    relative = os.path.relpath(image, place)
    leads_there = (place / relative).resolve() == image.resolve()
    return relative if beside and leads_there else str(image)
