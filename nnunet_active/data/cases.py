"""The preprocessed cases: labelled ones in nnU-Net's own folder, unlabelled ones in a folder beside it.

Stock nnU-Net treats every case in ``<data_identifier>`` as labelled (``-f all``), so a case without a label must
never be there; it goes to ``<data_identifier>_pool``, which stock nnU-Net does not know.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_active.data.plans import configuration_of, read_plans
from nnunet_active.data.raw_dataset import RawCase, check_case_identifier
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.nnunet.plain_pickle import read_properties
from nnunet_active.util.errors import BadCase, BadCaseIdentifier, CampaignError, MissingInput

_THICKNESS_OF_FLAT = 999  # times the larger pixel side: the slice thickness that nnU-Net's readers give a 2-D image

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager


class CaseStore:
    """Reads ``nnUNet_preprocessed/DatasetXXX/<data_identifier>`` and ``<data_identifier>_pool``.

    It reads both formats of nnU-Net: ``CASE.b2nd`` (blosc2) and the older ``CASE.npz`` (unpacked as ``CASE.npy`` or
    not). Only whole cases count: image, label and properties in the stock folder; image and properties in the pool.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``; need not exist yet.
        plans: content of the plans file.
        configuration: name of a configuration in it, e.g. ``3d_fullres``.

    Raises:
        MissingInput: the plans have no such configuration, or name a folder outside the data set.
    """

    def __init__(self, dataset_folder: Path, plans: dict, configuration: str) -> None:
        self.dataset_folder = Path(dataset_folder)
        self.configuration = configuration
        self.plans = plans
        data_identifier = configuration_of(plans, configuration)["data_identifier"]
        if Path(data_identifier).name != data_identifier:
            raise MissingInput(f"The plans' data_identifier {data_identifier!r} is not a plain folder name.")
        self.folder = self.dataset_folder / data_identifier
        self.pool_folder = self.dataset_folder / f"{data_identifier}_pool"

    @cached_property
    def plans_manager(self) -> PlansManager:
        """nnU-Net's own reader of the plans."""
        # not at the top: it imports PyTorch, and listing the cases does not need that
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        return PlansManager(self.plans)

    @cached_property
    def configuration_manager(self) -> ConfigurationManager:
        """nnU-Net's own reader of the configuration."""
        return self.plans_manager.get_configuration(self.configuration)

    def check_channels(self, names: Sequence[str]) -> None:
        """Check that the plans fit a data set with these channels.

        Raises:
            MissingInput: the plans have another number of channels, e.g. because they come from another data set.
        """
        schemes = self.configuration_manager.normalization_schemes
        if len(schemes) != len(names):
            dataset = self.dataset_folder.name
            raise MissingInput(
                f"The plans {self.plans_manager.plans_name} normalise {len(schemes)} channel(s) ({', '.join(schemes)}), {dataset} has "
                f"{len(names)} ({', '.join(names)}): they are those of another data set (nnUNetv2_move_plans_between_datasets keeps "
                f"them as they are), and stock preprocessing would crash on them. Make plans for this data set from the source "
                f"model: nnunet_active plan -d {dataset} -m MODEL -c {self.configuration}."
            )

    def identifiers(self) -> list[str]:
        """All stored cases, labelled or not, sorted."""
        return sorted({*self.labelled_identifiers(), *_whole_cases(self.pool_folder, with_label=False)})

    def labelled_identifiers(self) -> list[str]:
        """Cases in the stock folder, sorted."""
        return _whole_cases(self.folder, with_label=True)

    def pool_identifiers(self) -> list[str]:
        """Cases in the pool folder that are not in the stock folder as well, sorted."""
        return sorted({*_whole_cases(self.pool_folder, with_label=False)} - {*self.labelled_identifiers()})

    def load_image(self, case: str) -> np.ndarray:
        """The preprocessed image, float32 of shape (channels, Z, Y, X); opens only the image, never the label.

        Raises:
            MissingInput: the case is not stored.
            BadCase: its file cannot be read.
        """
        file = self.image_file(case)
        with reading("image", case, file.parent):
            return np.ascontiguousarray(_whole(file), dtype=np.float32)

    def image_sources(self, case: RawCase) -> list[Path]:
        """The files that a case's stored image is made from: its channels, and for 3-D TIFF the file with the spacing."""
        spacing = case.spacing_file if self.plans.get("image_reader_writer") == "Tiff3DIO" else None
        return [*case.images, *([spacing] if spacing else [])]

    def open_image(self, case: str) -> Any:
        """The same image as stored, for reading in parts: a blosc2 array or a memory map; for ``CASE.npz`` the array itself.

        Raises:
            MissingInput, BadCase: as :meth:`load_image`.
        """
        file = self.image_file(case)
        with reading("image", case, file.parent):
            return _opened(file)

    def image_file(self, case: str) -> Path:
        """The file that :meth:`load_image` reads.

        Raises:
            MissingInput: the case is not stored.
        """
        stem = self._stored_in(case) / case
        files = (_with(stem, ending) for ending in (".b2nd", ".npy", ".npz"))
        return next((file for file in files if file.is_file()), _with(stem, ".npz"))

    def image_state(self, case: str) -> tuple[int, int]:
        """Size in bytes and modification time in ns of that file: they reveal a changed image without reading it."""
        return size_and_time(self.image_file(case))

    def properties(self, case: str) -> dict:
        """What nnU-Net recorded about a case (``CASE.pkl``): spacing, cropping, for labelled ones ``class_locations``.

        Raises:
            MissingInput: the case is not stored.
            BadCase: the file cannot be read, or holds anything but numbers, texts and arrays.
        """
        file = _with(self._stored_in(case) / case, ".pkl")
        try:
            return read_properties(file)
        except (OSError, ValueError) as error:
            raise BadCase(
                f"{error}; delete the files {case}.* there and run nnunet_active preprocess again."
            ) from error

    def spacing(self, case: str) -> tuple[float, float, float]:
        """Voxel spacing in mm of the preprocessed array, in its axis order.

        A 3-D configuration resamples every case to its own spacing. A 2-D configuration keeps the distance between
        slices, which comes first and from the case's properties (in the plans' axis order). For a 2-D image, which has no thickness,
        it is 1, as in :class:`~nnunet_active.data.geometry.Geometry`.
        """
        target = self.configuration_manager.spacing
        if len(target) == 3:
            return tuple(float(s) for s in target)
        stored = [float(s) for s in self.properties(case)["spacing"]]
        slices = stored.pop(self.plans_manager.transpose_forward[0])
        is_flat = slices > 0.999 * _THICKNESS_OF_FLAT * max(stored)  # not exactly 999: the product is rounded
        return (1.0 if is_flat else slices, *(float(s) for s in target))

    def image_fingerprint(self, case: str) -> str:
        """Hex digest (BLAKE2b, 16 bytes) of the preprocessed image's shape and float32 voxels."""
        return image_digest(self.load_image(case))

    def _stored_in(self, case: str) -> Path:
        check_case_identifier(case)
        for folder, with_label in ((self.folder, True), (self.pool_folder, False)):
            if is_whole(folder, case, with_label):
                return folder
        raise MissingInput(
            f"Case {case} is neither in {self.folder} nor in {self.pool_folder}; run nnunet_active preprocess "
            f"-c {self.configuration} for this data set."
        )


@contextlib.contextmanager
def reading(what: str, case: str, folder: Path) -> Iterator[None]:
    """Turn any error in here into a BadCase (a damaged file) that names the case and the remedy."""
    try:
        yield
    except Exception as error:  # blosc2, numpy and zipfile raise very different errors for a damaged file
        raise BadCase(
            f"The preprocessed {what} of case {case} in {folder} cannot be read ({error}); "
            f"delete the files {case}.* there and run nnunet_active preprocess again."
        ) from error


def _opened(file: Path) -> Any:
    if file.suffix == ".b2nd":
        # not at the top, as in plans_manager: listing the cases reads no voxels
        from nnunet_active.data.blosc_files import open_b2nd

        return open_b2nd(file)
    if file.suffix == ".npy":
        return np.load(file, mmap_mode="r")
    with np.load(file) as archive:  # members are read one by one, so "seg" is never read
        return archive["data"]


def _whole(file: Path) -> np.ndarray:
    if file.suffix == ".b2nd":
        from nnunet_active.data.blosc_files import read_b2nd

        return read_b2nd(file)
    return _opened(file)[:]


def image_digest(image: np.ndarray) -> str:
    """Hex digest (BLAKE2b, 16 bytes) of the shape and voxels of a contiguous array."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.data)
    return digest.hexdigest()


def open_store(dataset: str, plans: str, configuration: str) -> CaseStore:
    """The preprocessed cases of a configuration.

    Raises:
        MissingInput: the plans, or the configuration in them, do not exist.
        CampaignError: the configuration is the second stage of a cascade.
    """
    return make_store(dataset, read_plans(dataset, plans), configuration)


def make_store(dataset: str, plans: dict, configuration: str) -> CaseStore:
    """The same, with the content of the plans file.

    Raises:
        MissingInput: the plans have no such configuration.
        CampaignError: the configuration is the second stage of a cascade.
    """
    store = CaseStore(preprocessed_folder(dataset), plans, configuration)
    if configuration_of(plans, configuration).get("previous_stage"):
        raise CampaignError(
            f"{configuration} is the second stage of a cascade; active queries work with 2d, 3d_fullres and 3d_lowres."
        )
    return store


def case_files(folder: Path, case: str, with_label: bool) -> list[list[Path]]:
    """The sets of files that make a whole case, one set per format, the image last.

    The image comes last because nnU-Net finds a case by the image's name: writing the files in this order never shows
    a case without its label or its properties.
    """
    stem = folder / case
    label = [_with(stem, "_seg.b2nd")] if with_label else []
    return [[*label, _with(stem, ".pkl"), _with(stem, ".b2nd")], [_with(stem, ".pkl"), _with(stem, ".npz")]]


def label_state(folder: Path, case: str) -> tuple[int, int] | None:
    """As :meth:`CaseStore.image_state`, for the file from which nnU-Net reads a stored label; None if there is none."""
    files = (_with(folder / case, ending) for ending in ("_seg.b2nd", "_seg.npy", ".npz"))
    return next((size_and_time(file) for file in files if file.is_file()), None)


def size_and_time(file: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns, which identify an unchanged file."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def is_whole(folder: Path, case: str, with_label: bool) -> bool:
    """Whether a folder holds all files of a case."""
    return any(all(file.is_file() for file in files) for files in case_files(folder, case, with_label))


def _with(stem: Path, ending: str) -> Path:
    """``stem`` plus an ending; ``Path.with_suffix`` would cut identifiers that contain a dot."""
    return stem.parent / (stem.name + ending)


def _whole_cases(folder: Path, with_label: bool) -> list[str]:
    with os.scandir(folder) if folder.is_dir() else contextlib.nullcontext(()) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    found = set()
    for name in names:
        identifier, dot, ending = name.rpartition(".")
        if dot and ending in ("b2nd", "npz") and _is_safe(identifier):
            wanted = (f"{identifier}.pkl", f"{identifier}_seg.b2nd" if with_label and ending == "b2nd" else name)
            if names.issuperset(wanted):
                found.add(identifier)
    return sorted(found)


def _is_safe(identifier: str) -> bool:
    try:
        check_case_identifier(identifier)
    except BadCaseIdentifier:
        return False
    return True
