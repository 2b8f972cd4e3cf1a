"""The scans as the user keeps them: ``nnUNet_raw/DatasetXXX``, and further folders of unlabelled images.

Nothing is written here and no image is opened; ``image_checks`` finds out whether a file can be read.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_active.data.dataset_json import distinct_channel_names, read_dataset_json
from nnunet_active.data.file_endings import PICTURE_ENDINGS, is_special, other_images
from nnunet_active.data.label_folder import LabelFolder
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import BadCase, BadCaseIdentifier, MissingInput
from nnunet_active.util.state_file import read_state

# A word character first (no leading dot or dash), then also spaces and . + = -, but no separator or control character.
_IDENTIFIER = re.compile(r"\w[\w .+=-]*")
_LONGEST_IDENTIFIER = 200  # file systems stop at 255 bytes, and nnU-Net adds endings
_IMAGE_STEM = re.compile(r"(?P<case>.*)_(?P<channel>\d{4})", re.DOTALL)


def check_case_identifier(identifier: str) -> str:
    """Return a case identifier that is safe as a file name in nnU-Net's folders, or refuse it.

    Allowed are letters, digits and ``_`` at the start, then also ``-``, ``.``, ``+``, ``=`` and spaces in between.
    ``_seg`` at the end is refused because nnU-Net stores the label of case ``a`` as ``a_seg.b2nd``, which would also be
    the image of a case ``a_seg``.

    Raises:
        BadCaseIdentifier: anything else, e.g. ``../x``, ``a/b``, ``.hidden``, control characters, an empty name.

    >>> check_case_identifier("TCGA_CS_4941-1.2")
    'TCGA_CS_4941-1.2'
    """
    reason = None
    if not identifier:
        reason = "it is empty"
    elif ".." in identifier:
        reason = "'..' could lead out of the data set's folders"
    elif len(identifier.encode("utf-8", "replace")) > _LONGEST_IDENTIFIER:
        reason = f"it is longer than {_LONGEST_IDENTIFIER} bytes"
    elif not _IDENTIFIER.fullmatch(identifier):
        reason = (
            "only letters, digits, '_', '-', '.', '+', '=' and spaces are allowed, and a letter, digit or '_' first"
        )
        if _IDENTIFIER.fullmatch(unicodedata.normalize("NFC", identifier)):
            reason = "its accents are characters of their own, as macOS writes them (Unicode NFD, not NFC)"
    elif identifier[-1] in " .":
        reason = "it ends with a space or a dot"
    elif identifier.endswith("_seg"):
        reason = "nnU-Net takes files that end with '_seg' for labels"
    if reason:
        raise BadCaseIdentifier(f"The case identifier {identifier!r} is refused: {reason}; rename the case's files.")
    return identifier


@dataclass(frozen=True)
class RawCase:
    """One case: its image files in the order of the channels, and its label file if it has one."""

    identifier: str
    images: tuple[Path, ...]
    label: Path | None

    @property
    def spacing_file(self) -> Path | None:
        """``CASE.json``, from which nnU-Net's reader of 3-D TIFF files takes the spacing of ``CASE_0000.tif``; None if missing."""
        first = self.images[0]
        if first.suffix.lower() not in (".tif", ".tiff"):
            return None
        file = first.with_name(f"{first.stem[: -len('_0000')]}.json")
        return file if file.is_file() else None


class RawDataset:
    """``nnUNet_raw/DatasetXXX`` and, if given, further folders of unlabelled images (the pool).

    Images are ``imagesTr/CASE_0000<ending>``, ``CASE_0001<ending>`` ..., labels ``labelsTr/CASE<ending>``. Cases that
    ``dataset.json`` lists under ``"dataset"`` are taken from there (environment variables expanded, relative paths
    taken from the data set's folder, as in nnU-Net); further images in ``imagesTr`` are cases as well. A label in ``labelsTr`` in the
    data set's own format takes precedence over a listed label in another format, because corrections go there. Pool folders
    hold images named as in ``imagesTr``; labels that arrive later belong into ``labelsTr`` for them too.

    Attributes:
        name: the folder's name, e.g. ``Dataset204_GliomaTarget``.
        cases: case identifier -> RawCase, sorted by identifier.
        problems: identifier (or file name) -> sentence, for cases that were set aside; they are not in ``cases``.
        warnings: identifier or folder -> sentence, for oddities that did not prevent reading.

    Raises:
        MissingInput: no folder, no usable ``dataset.json``, no ``imagesTr``, no such pool folder.
        BadCase: a case identifier is used in two folders.
    """

    def __init__(self, folder: Path, pool_folders: Sequence[Path] = ()) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        self.dataset_json, notes = read_dataset_json(self.folder / "dataset.json")
        self.file_ending: str = self.dataset_json["file_ending"]
        self.channel_names = distinct_channel_names(self.dataset_json)
        self.pool_folders = tuple(dict.fromkeys(Path(p).resolve() for p in pool_folders))
        self.problems: dict[str, str] = {}
        self.warnings: dict[str, str] = {"dataset.json": " ".join(notes)} if notes else {}
        self._found: dict[str, RawCase] = {}
        self._origin: dict[str, Path] = {}  # where each case was first seen, even if it was set aside
        self._labels = LabelFolder(self.folder / "labelsTr", self.file_ending)
        self._read_listing()
        self._read_images_folder()
        for pool_folder in self.pool_folders:
            self._read_pool_folder(pool_folder)
        self._check_label_names()
        self.cases: dict[str, RawCase] = dict(sorted(self._found.items()))

    @property
    def labelled(self) -> list[str]:
        """Identifiers of the cases that have a label file, sorted; the file itself was not opened."""
        return [identifier for identifier, case in self.cases.items() if case.label is not None]

    @property
    def unlabelled(self) -> list[str]:
        """Identifiers of the cases without a label file, sorted."""
        return [identifier for identifier, case in self.cases.items() if case.label is None]

    def _check_label_names(self) -> None:
        """Report labels without an image and unsafe names; pass on the label folder's other warnings."""
        for identifier, sentence in self._labels.finish().items():
            known = identifier in self._origin or identifier in self.problems
            if not known and self._is_safe(identifier, self.folder / "labelsTr"):
                self.problems[identifier] = sentence
        self.warnings |= self._labels.warnings

    def _is_safe(self, identifier: str, where: Path | str) -> bool:
        try:
            check_case_identifier(identifier)
        except BadCaseIdentifier as error:
            self.problems[identifier] = f"{error} (found as {str(where)!r})"
            return False
        return True

    def _read_listing(self) -> None:
        """Read the cases that ``dataset.json`` lists; their identifiers are free text, so they are checked first."""
        listing = self.dataset_json.get("dataset", {})
        if not isinstance(listing, Mapping):
            raise MissingInput(f'"dataset" in {self.folder / "dataset.json"} must map case identifiers to files.')
        for identifier, entry in listing.items():
            if not self._is_safe(identifier, self.folder / "dataset.json"):
                continue
            files = entry.get("images") if isinstance(entry, Mapping) else None
            if not isinstance(files, list) or not all(
                isinstance(one, str) for one in [*files, entry.get("label") or ""]
            ):
                self.problems[identifier] = (
                    f'Case {identifier} in dataset.json has no list of files under "images", or no file under "label".'
                )
                continue
            images = {channel: self._expand(path) for channel, path in enumerate(files)}
            label = self._expand(entry["label"]) if entry.get("label") else None
            if label is not None and not label.is_file():
                self.warnings[identifier] = (
                    f"The label {label} that dataset.json lists for case {identifier} is not there; "
                    f"the case counts as unlabelled."
                )
                label = None
            label = self._labels.before_listed(identifier, label) if label else self._labels.label_of(identifier)
            self._add_case(identifier, images, label, self.folder / "dataset.json")

    def _expand(self, path: str) -> Path:
        return Path(os.path.abspath(self.folder / os.path.expandvars(path)))

    def _read_images_folder(self) -> None:
        folder = self.folder / "imagesTr"
        if not folder.is_dir():
            if self._found:
                return  # every case is listed in dataset.json, with files elsewhere
            raise MissingInput(
                f"{folder} was not found; put the images there, one file per channel: "
                f"CASE_0000{self.file_ending}, CASE_0001{self.file_ending} ..."
            )
        listed = set(self.dataset_json.get("dataset", {}))
        groups = self._group_by_case(folder)
        if not groups:
            self._check_endings(folder)
        for identifier, images in groups.items():
            if identifier not in listed:
                self._add_case(identifier, images, self._labels.label_of(identifier), folder)

    def _check_endings(self, folder: Path) -> None:
        """Report images of which none has the ending in ``dataset.json``: the mistake is there."""
        others = other_images(os.listdir(folder), self.file_ending)
        if others and not self._found:
            raise MissingInput(
                f"No image in {folder} ends in {self.file_ending}, as file_ending in {self.folder / 'dataset.json'} says, but "
                f"{len(others)} file(s) end otherwise ({others[0]} ...); correct file_ending, or save the images in that format."
            )

    def _read_pool_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            raise MissingInput(
                f"The pool folder {folder} was not found; check the path, or take it out of active/pool_folders.json "
                f"in the preprocessed data set."
            )
        groups = self._group_by_case(folder)
        if not groups:
            self.warnings[str(folder)] = (
                f"The pool folder {folder} holds no images named CASE_0000{self.file_ending}; nothing is taken from it."
            )
        for identifier, images in groups.items():
            if identifier in self._origin:
                raise BadCase(
                    f"Case {identifier} is in the pool folder {folder} and in {self._origin[identifier]}; "
                    f"rename one of them or remove one copy."
                )
            self._add_case(identifier, images, self._labels.label_of(identifier), folder)

    def _group_by_case(self, folder: Path) -> dict[str, dict[int, Path]]:
        groups: dict[str, dict[int, Path]] = {}
        if others := other_images(os.listdir(folder), self.file_ending):
            self.warnings[str(folder)] = (
                f"{len(others)} image file(s) in {folder} do not end in {self.file_ending} and are passed over: {', '.join(others[:5])}"
                f"{' ...' if len(others) > 5 else '.'}"
            )
        for name in _file_names(folder, self.file_ending):
            match = _IMAGE_STEM.fullmatch(name.removesuffix(self.file_ending))
            if match is None:
                self.problems[name] = (
                    f"{str(folder / name)!r} has no channel number; nnU-Net names images CASE_0000{self.file_ending}."
                )
            elif self._is_safe(match["case"], folder / name):
                groups.setdefault(match["case"], {})[int(match["channel"])] = folder / name
        return groups

    def _add_case(self, identifier: str, images: Mapping[int, Path], label: Path | None, where: Path) -> None:
        self._origin[identifier] = where
        expected = len(self.channel_names)
        if list(images) == [0] and self.file_ending.lower() in PICTURE_ENDINGS:
            expected = 1  # one file holds all channels, and the check of the image counts them
        absent = [c for c in range(expected) if c not in images or not images[c].is_file()]
        surplus = sorted(set(images) - set(range(expected)))
        if special := [file for file in images.values() if is_special(file)]:
            self.problems[identifier] = (
                f"Case {identifier}: {special[0]} is no regular file (a pipe, a socket or a device) and is not read; replace it."
            )
        elif absent:
            names = ", ".join(
                f"{self.channel_names[c]} ({images.get(c, f'{identifier}_{c:04d}{self.file_ending}')})" for c in absent
            )
            self.problems[identifier] = (
                f"Case {identifier} lacks the channel {names} in {where}; add the file or take the case out."
            )
        elif surplus:
            self.problems[identifier] = (
                f"Case {identifier} has {len(images)} channel files in {where}, but dataset.json names {expected} "
                f"channel(s); remove {', '.join(images[c].name for c in surplus)} or correct dataset.json."
            )
        else:
            self._found[identifier] = RawCase(identifier, tuple(images[c] for c in range(expected)), label)


def _file_names(folder: Path, ending: str) -> list[str]:
    """Names with that ending, sorted; a missing folder has none. Links count, so that broken ones are noticed."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.endswith(ending) and not entry.is_dir())


def _pool_file(preprocessed_dataset_folder: Path) -> Path:
    return Path(preprocessed_dataset_folder) / "active" / "pool_folders.json"


def read_pool_folders(preprocessed_dataset_folder: Path) -> list[Path]:
    """Extra pool folders named for this data set before; none if the file does not exist."""
    file = _pool_file(preprocessed_dataset_folder)
    if not file.is_file():
        return []
    return [
        Path(path) for path in read_state(file, list[str], "a list of folders", "correct or delete it", MissingInput)
    ]


def remember_pool_folder(preprocessed_dataset_folder: Path, folder: Path) -> list[Path]:
    """Add a pool folder to ``active/pool_folders.json`` (absolute, once) and return all of them.

    Raises:
        MissingInput: the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingInput(f"The pool folder {folder} was not found; check the path given with --pool.")
    folders = read_pool_folders(preprocessed_dataset_folder)
    if folder.resolve() not in folders:
        folders.append(folder.resolve())
        write_json(_pool_file(preprocessed_dataset_folder), [str(f) for f in folders])
    return folders
