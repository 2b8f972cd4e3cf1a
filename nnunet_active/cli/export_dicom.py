"""``nnunet_active export-dicom``: write predictions as DICOM segmentations of the series that they were made from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.cli.arguments import add_dataset

if TYPE_CHECKING:
    from nnunet_active.data.dicom_series import DicomSeries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the predictions, the scans and the table are, and where to write."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="PREDICTIONS",
        help="label maps named after their cases, as nnUNetv2_predict writes them",
    )
    add_dataset(parser)
    parser.add_argument("--scans", required=True, type=Path, metavar="FOLDER", help="the DICOM files, at any depth")
    parser.add_argument(
        "--table", required=True, type=Path, metavar="FILE", help="the table that import-dicom wrote and imported by"
    )
    parser.add_argument(
        "-o", dest="output", required=True, type=Path, help="folder for CASE.dcm; they have the patients' headers"
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a case was set aside."""
    from nnunet_active.data.dataset_json import foreground_classes, read_dataset_json
    from nnunet_active.data.dicom_export import check_segment_names, require_highdicom
    from nnunet_active.data.dicom_series import find_series
    from nnunet_active.data.dicom_table import SeriesTable, check_apart
    from nnunet_active.data.label_reader import find_label_files
    from nnunet_active.data.raw_dataset import RawDataset
    from nnunet_active.nnunet import nnunet_paths
    from nnunet_active.util.errors import ActiveError, MissingInput

    require_highdicom()
    raw = RawDataset(nnunet_paths.raw_folder(nnunet_paths.dataset_name(args.dataset)))
    for flag, path in (("--table", args.table), ("-o", args.output)):
        check_apart(flag, path, nnunet_paths.known_roots())
    if not args.folder.is_dir():
        raise MissingInput(f"{args.folder} was not found; name the folder that nnUNetv2_predict wrote.")
    content = read_dataset_json(raw.folder / "dataset.json").content
    check_segment_names(foreground_classes(content["labels"]))
    cases = SeriesTable.read(args.table, raw.channel_names).cases()
    series = {(one.study, one.uid): one for one in find_series(args.scans).series}
    files, others = find_label_files(args.folder, cases, raw.file_ending)
    if not files:
        raise MissingInput(f"{args.folder} holds no label map that is named after a case of {args.table}.")
    problems = 0
    for case, found in files.items():
        own = [file for file in found if file.name == f"{case}{raw.file_ending}"] or found
        try:
            if len(own) > 1:
                raise ActiveError(f"Case {case} has {len(own)} label maps in {args.folder}; name the folder of one.")
            target = args.output / f"{case}.dcm"
            _export(case, own[0], raw, content, series.get(cases[case].get(0)), target)
            print(f"Written: {target}")
        except ActiveError as error:
            problems += 1
            print(f"Not written: {error}")
    if others:
        print(f"{len(others)} more label map(s) are named after no case of {args.table}, {others[0].name} first.")
    print(f"{len(files) - problems} written, {problems} set aside. The files have the headers of their patients.")
    return 1 if problems else 0


def _export(case: str, file: Path, raw, content: dict, series: DicomSeries | None, target: Path) -> None:
    from nnunet_active.annotation.label_colours import labels_of
    from nnunet_active.data.dataset_json import class_masks
    from nnunet_active.data.dicom_export import write_dicom_seg
    from nnunet_active.data.dicom_import import holds_the_same
    from nnunet_active.data.image_checks import image_reader
    from nnunet_active.data.label_reader import read_label
    from nnunet_active.util.errors import BadCase

    if case not in raw.cases:
        raise BadCase(raw.problems.get(case, f"Case {case} is not in {raw.folder}."))
    name = raw.channel_names[0]
    if series is None:
        raise BadCase(f"Case {case}: the series for {name} is not among the scans; name their folder with --scans.")
    if fault := series.fault():
        raise BadCase(f"Case {case}: the series for {name} {fault}.")
    image = raw.cases[case].images[0]
    volume = series.volume()
    try:
        same = holds_the_same(image, volume.read(), volume.grid)
    except BadCase as error:
        raise BadCase(f"Case {case}: the series for {name} {error}.") from error
    if not same:  # the table may belong to other patients whose cases have the same names
        raise BadCase(
            f"Case {case}: {image} is not the image that the series for {name} holds; name the table and the scans by which it was "
            f"imported."
        )
    reader = image_reader({"image_reader_writer": content.get("overwrite_image_reader_writer") or "SimpleITKIO"})
    voxels = read_label(case, file, image, content, reader, raw.file_ending).voxels
    colours = {label.name: label.colour for label in labels_of(content)}
    try:
        write_dicom_seg(class_masks(voxels, content["labels"]), colours, series, target)
    except BadCase as error:
        raise BadCase(f"Case {case}: the series for {name} {error}.") from error
