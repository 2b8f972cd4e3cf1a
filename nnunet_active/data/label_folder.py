"""The label files in ``labelsTr``, in any format: which file belongs to which case, and which files belong to none."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_active.data.file_endings import is_native, is_special, label_stems

_SHOWN = 5
_CHANNEL = re.compile(r"_\d{4}$")


class LabelFolder:
    """The labels of a data set.

    A label in the data set's own format takes precedence. Among several in other formats none does: the case then counts as
    unlabelled until only one is left.

    Args:
        folder: ``labelsTr``; need not exist.
        ending: the data set's file ending.

    Attributes:
        warnings: case or folder -> sentence about files that are not used.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self.warnings: dict[str, str] = {}
        self._ending = ending
        self._stems: dict[Path, list[str]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._taken: set[Path] = set()
        self._passed_over: list[Path] = []
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            stems = label_stems(file.name, ending)
            if not stems or file.is_dir() or (file.name.startswith(".") and not file.name.endswith(ending)):
                continue
            self._stems[file] = stems
            for stem in stems:
                self._by_stem.setdefault(stem, []).append(file)

    def before_listed(self, case: str, listed: Path) -> Path:
        """The file that counts for a case whose label ``dataset.json`` lists. If the listed file is in another format, a file here in
        the data set's own format comes first, because corrections of the listed label go here.
        """
        own = self.folder / f"{case}{self._ending}"
        if own not in self._stems or is_special(own) or is_native(listed, self._ending):
            return listed
        self.warnings[case] = (
            f"Case {case}: the label {own} counts, and not {listed}, which dataset.json lists in another format; name {own} there, "
            f"since nnU-Net's own commands go by that."
        )
        return own

    def label_of(self, case: str) -> Path | None:
        """The label file of a case if exactly one is usable, else None; the file is not opened."""
        files = self._by_stem.get(case, [])
        self._taken.update(files)
        special = [file for file in files if is_special(file)]
        usable = [file for file in files if file not in special]
        if special:
            self.warnings[case] = f"The label {special[0]} of case {case} is no regular file; it is not read."
        native = [file for file in usable if file.name == f"{case}{self._ending}"]
        if native:
            self._passed_over += [file for file in usable if file not in native]
            return native[0]
        if len(usable) > 1:
            self.warnings[case] = (
                f"Case {case} has {len(usable)} label files, {', '.join(file.name for file in usable)} in {self.folder}; leave the "
                f"right one there. Until then the case counts as unlabelled."
            )
            return None
        return usable[0] if usable else None

    def finish(self) -> dict[str, str]:
        """Call after asking for every case: returns the files of no case, name -> sentence; skipped files go to ``warnings``."""
        if self._passed_over:
            shown = ", ".join(file.name for file in self._passed_over[:_SHOWN])
            more = " ..." if len(self._passed_over) > _SHOWN else ""
            self.warnings[str(self.folder)] = (
                f"{len(self._passed_over)} label file(s) in {self.folder} are passed over, since the same cases have a label in "
                f"{self._ending}: {shown}{more}."
            )
        return {
            self._name(file, stems): self._without_image(file, stems)
            for file, stems in self._stems.items()
            if file not in self._taken
        }

    def _without_image(self, file: Path, stems: list[str]) -> str:
        case = _CHANNEL.sub("", stems[0])
        if case != stems[0]:
            return (
                f"The label {file} has a channel number, as images have; if it is the label of case {case}, rename it to "
                f"{case}{file.name[len(stems[0]) :]}."
            )
        return f"The label {file} has no image; put the case's images into {self.folder.parent / 'imagesTr'}."

    def _name(self, file: Path, stems: list[str]) -> str:
        return file.name.removesuffix(self._ending) if file.name.endswith(self._ending) else stems[0]
