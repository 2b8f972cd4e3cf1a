"""``nnunet_active import-dicom``: DICOM series become cases of the target data set."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.cli.arguments import add_dataset
from nnunet_active.commands import Commands

if TYPE_CHECKING:
    from nnunet_active.data.dicom_series import FoundSeries
    from nnunet_active.data.dicom_table import SeriesTable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Folder, table, patterns."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="DICOM files, at any depth")
    add_dataset(parser)
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="CSV file, outside of nnU-Net's folders, that says which series becomes which channel of which case, and whose scans they "
        "are; where it is not there it is written, to be checked, else the cases in it are imported (default: only list the series)",
    )
    parser.add_argument(
        "--match",
        nargs="+",
        action="extend",
        default=[],
        metavar="CHANNEL=REGEX",
        help="what the description of a channel's series matches (default: it holds the channel's name)",
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case was set aside or a file cannot be read."""
    from nnunet_active.data.dataset_json import distinct_channel_names, read_dataset_json
    from nnunet_active.data.dicom_import import DicomCases
    from nnunet_active.data.dicom_planes import require_pydicom
    from nnunet_active.data.dicom_series import find_series
    from nnunet_active.data.dicom_table import SeriesTable, check_apart
    from nnunet_active.data.file_endings import carries_geometry
    from nnunet_active.nnunet import nnunet_paths
    from nnunet_active.util.errors import MissingInput

    require_pydicom()
    dataset = nnunet_paths.dataset_name(args.dataset)
    raw = nnunet_paths.raw_root() / dataset
    if not (raw / "dataset.json").is_file():
        raise MissingInput(
            f"{raw / 'dataset.json'} was not found; it names the channels and the labels: copy that of the source model there, and "
            f"correct it."
        )
    content = read_dataset_json(raw / "dataset.json").content
    channels, ending = distinct_channel_names(content), content["file_ending"]
    if not carries_geometry(ending):
        raise MissingInput(
            f"Files that end in {ending} cannot say where a scan lies; set file_ending in {raw / 'dataset.json'} to .nii.gz."
        )
    patterns = _patterns(args.match, channels)
    there = args.table is not None and args.table.exists()
    if args.table is not None:
        check_apart("--table", args.table, nnunet_paths.known_roots())
    table = SeriesTable.read(args.table, channels) if there else SeriesTable.empty(channels)
    found = find_series(args.folder)
    if there:  # somebody may have changed it in the meantime
        table = SeriesTable.read(args.table, channels)
    asked = table.cases()
    importer = DicomCases(raw, channels, ending, found.series)
    in_use = importer.names()
    added = table.add(found.series, patterns, in_use)
    again = f"nnunet_active import-dicom FOLDER -d {args.dataset} --table"
    _list(found, table)
    if in_use and not there:
        print(
            f"{raw.name} has {len(in_use)} case(s) already. If they come from these scans, name the table by which they were imported: "
            f"a new one does not know them, and would bring them again under other names."
        )
    if args.table is None:
        print(f"Nothing is written. Next: {again} FILE writes this as a table to check.")
        return 0
    if not there:
        table.write(args.table)
        print(
            f"Written: {args.table}. It says whose scans these are: keep it apart from the data. Check its columns case and channel, "
            f"and run the same command again to import what they say."
        )
        return 0
    if added:  # before the import, which takes long: somebody may edit the table in the meantime
        table.write(args.table)
    try:
        result = importer.write(asked, print)
    finally:
        if added:
            print(f"{added} series are new in {args.table}; check them, and run the same command again.")
    for case, sentences in result.notes.items():
        print(*(f"Note: {case}, {sentence}" for sentence in sentences), sep="\n")
    print(f"{len(result.written)} case(s) written, {len(result.there)} were there, {len(result.problems)} set aside.")
    print("Next:", Commands(dataset, "").next())
    return 1 if result.problems or found.damaged else 0


def _patterns(pairs: list[str], channels: list[str]) -> dict[str, re.Pattern]:
    from nnunet_active.util.errors import ActiveError

    found = {}
    for pair in pairs:
        channel, sign, text = pair.partition("=")
        if not sign or channel not in channels:
            raise ActiveError(f"--match {pair}: write CHANNEL=REGEX; the channels are {', '.join(channels)}.")
        try:
            found[channel] = re.compile(text, re.IGNORECASE)
        except re.error as error:
            raise ActiveError(f"--match {pair}: that is no regular expression ({error}).") from None
    return found


def _list(found: FoundSeries, table: SeriesTable) -> None:
    """Print the series, with patients by pseudonym only."""
    rows = {(row["study_uid"], row["series_uid"]): row for row in table.rows.to_dict("records")}
    last = None
    for one in found.series:
        row = rows[one.study, one.uid]
        if row["case"] != last:
            last = row["case"]
            print(last)
        said = f"-> {row['channel']}" if row["channel"] else "not taken"
        notes = [fault] if (fault := one.fault()) else one.notes()
        words = f"{one.modality} '{one.description}', {len(one.planes)} images, {one.size()}: {said}"
        print(f"  {words}" + "".join(f" ({note})" for note in notes))
    if found.others:
        print(f"{found.others} other DICOM files are no scans (segmentations, reports ...).")
    for file in found.damaged[:5]:
        print(f"Cannot be read: {file}")
    if len(found.damaged) > 5:
        print(f"Cannot be read: {len(found.damaged) - 5} more files")
