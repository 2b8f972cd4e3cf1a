"""The archive of the network's predictions for requested cases, before anybody edited them. Hand-off folders are made from it, so that
both always agree, and an archived case needs no second pass of the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from nnunet_active.annotation.image_record import is_of_these, record_file, write_image_record
from nnunet_active.annotation.resample_back import to_original_space
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.maps import (
    map_ending,
    read_in_file_order,
    to_file_order,
    write_label_like,
    write_map_like,
)
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.atomic import temporary_folder
from nnunet_active.util.errors import BadCase


@dataclass(frozen=True)
class Archived:
    """The files of a case in the archive, and their content, (Z, Y, X) in file order.

    Attributes:
        label_file: the label map; its voxels are ``label``.
        uncertainty_file: the uncertainty map; its voxels are ``uncertainty``.
        companions: further files that the data set's writer made (``CASE.json`` beside a TIFF).
    """

    label_file: Path
    uncertainty_file: Path
    label: np.ndarray
    uncertainty: np.ndarray
    companions: tuple[Path, ...] = ()


class Archive:
    """A folder with ``CASE<ending>`` and ``CASE_uncertainty<map ending>`` per case, and a hidden record of the image they are of.

    Args:
        folder: path of the archive; need not exist yet.
        store: the preprocessed images; knows the plans.
        dataset_json: labels and file ending.
        predict: maps a preprocessed image (M, Z, Y, X) float32 to logits (C, Z, Y, X).
        temperature: gives the temperature of the uncertainty maps; called when a case is predicted.
    """

    def __init__(
        self,
        folder: Path,
        store: CaseStore,
        dataset_json: dict,
        predict: Callable[[np.ndarray], Tensor],
        temperature: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.folder = Path(folder)
        self.store = store
        self.dataset_json = dataset_json
        self.predict, self.temperature = predict, temperature
        self.ending: str = dataset_json["file_ending"]
        self.reader = store.plans_manager.image_reader_writer_class

    def uncertainty_name(self, case: str) -> str:
        """Name of a case's uncertainty map."""
        return f"{case}_uncertainty{map_ending(self.ending)}"

    def get(self, case: RawCase) -> Archived:
        """The prediction of a case: from the archive if it is there and is of this very image, else predicted now.

        Raises:
            BadCase: the image cannot be read, or the network's output cannot be used.
            MissingInput: the case is not preprocessed.
        """
        found = self._read(case)
        if found is None:
            self._predict(case)
            found = self._read(case)
        if found is None:
            raise BadCase(
                f"Case {case.identifier}: the prediction in {self.folder} does not have the size of its image."
            )
        return found

    def _read(self, case: RawCase) -> Archived | None:
        label_file = self.folder / f"{case.identifier}{self.ending}"
        uncertainty_file = self.folder / self.uncertainty_name(case.identifier)
        if not (label_file.is_file() and uncertainty_file.is_file()):
            return None
        if not is_of_these(record_file(self.folder, case.identifier), case.images):
            return None
        try:
            label = read_in_file_order(label_file, self.ending, self.reader)
            uncertainty = read_in_file_order(uncertainty_file, map_ending(self.ending)).astype(np.float32, copy=False)
            geometry = Geometry.of_file(case.images[0], label.shape)
        except Exception:  # image libraries raise many kinds of errors; predict again if a file is damaged
            return None
        if not label.shape == uncertainty.shape == geometry.shape:
            return None
        # readers of formats without geometry return floats
        label = label.astype(np.uint8 if label.max(initial=0) < 256 else np.uint16, copy=False)
        companion = self.folder / f"{case.identifier}.json"
        return Archived(label_file, uncertainty_file, label, uncertainty, (companion,) if companion.is_file() else ())

    def _predict(self, case: RawCase) -> None:
        """Predict a case and write its files, the label map last, so that a kill leaves no label map, or a whole one of this image."""
        name = case.identifier
        properties = self.store.properties(name)
        image = self.store.load_image(name)
        try:
            logits = self.predict(image)
        except BadCase as error:
            raise BadCase(f"Case {name}: {error}") from error
        del image
        try:
            label, uncertainty = to_original_space(
                name, logits, self.store, properties, self.dataset_json, self.temperature()
            )
        except Exception as error:  # the plans' resampling functions may raise anything
            said = f"{type(error).__name__}: {error}"
            raise BadCase(
                f"Case {name}: the prediction cannot be brought back onto the image's grid ({said})."
            ) from error
        del logits
        try:
            with temporary_folder(self.folder / name) as temporary:
                write_map_like(
                    to_file_order(uncertainty, properties),
                    case.images[0],
                    temporary / self.uncertainty_name(name),
                    self.ending,
                    level=3,
                )
                label_name = f"{name}{self.ending}"
                write_label_like(label, case.images[0], temporary / label_name, self.ending, self.reader, properties)
                (self.folder / label_name).unlink(missing_ok=True)
                write_image_record(record_file(self.folder, name), case.images)
                for file in sorted(temporary.iterdir(), key=lambda file: file.name == label_name):
                    with file.open("rb+") as content:
                        os.fsync(content.fileno())
                    os.replace(file, self.folder / file.name)
        except (ValueError, RuntimeError) as error:
            raise BadCase(f"Case {name}: the prediction cannot be written like {case.images[0]} ({error}).") from error
