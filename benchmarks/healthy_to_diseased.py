"""The pair "healthy to diseased hearts": a source model of healthy patients, and scans of four groups of diseased ones.

    python benchmarks/healthy_to_diseased.py FOLDER

Makes ``FOLDER/nnUNet_raw/Dataset207_CardiacDiseased`` with links to the scans and labels of ``Dataset201_CardiacCine`` in the test
data, and ``FOLDER/splits_final.json`` (train: the 96 pool scans, val: the 64 test scans; no patient is in both). It prints the command
that plans from the source model ``Dataset206_CardiacHealthy``, preprocesses and compares strategies. The test data's
``splits/healthy_to_diseased.json`` names the cases. The scans are CC BY-NC-SA 4.0 (ACDC, Bernard et al., IEEE TMI 2018) and stay where
they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from workspace import ENDING, Workspace, test_data

SOURCE, SCANS, TARGET = "Dataset206_CardiacHealthy", "Dataset201_CardiacCine", "Dataset207_CardiacDiseased"
CONFIGURATION = "2d"


def read_parts(data: Path) -> dict[str, list[str]]:
    """Cases of the ``pool`` and the ``test`` part; a patient is in one part alone.

    Raises:
        SystemExit: a patient is in two parts.
    """
    parts = json.loads((data / "splits" / "healthy_to_diseased.json").read_text())
    patients = {name: {case.split("_")[0] for case in cases} for name, cases in parts.items()}
    for name, mine in patients.items():
        for other, theirs in patients.items():
            if name < other and mine & theirs:
                raise SystemExit(f"Patients {', '.join(sorted(mine & theirs))} are in {name} and in {other}.")
    return {name: sorted(parts[name]) for name in ("pool", "test")}


def make_pair(folder: Path, data: Path) -> Workspace:
    """The raw data set and its split; see the top of this file.

    Raises:
        SystemExit: a scan or label is not there, or there is such a data set in the folder already.
    """
    model = data / "models" / SOURCE / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    space, parts, scans = (
        Workspace(folder, TARGET, {CONFIGURATION: model}),
        read_parts(data),
        data / "nnUNet_raw" / SCANS,
    )
    if space.raw.exists():
        raise SystemExit(f"{space.raw} is there already; name another folder, or remove it.")
    cases = [*parts["pool"], *parts["test"]]
    files = {
        case: (scans / "imagesTr" / f"{case}_0000{ENDING}", scans / "labelsTr" / f"{case}{ENDING}") for case in cases
    }
    missing = [str(file) for both in files.values() for file in both if not file.is_file()]
    if missing:
        raise SystemExit(f"{len(missing)} files of {SCANS} are missing, the first is {missing[0]}.")
    (space.raw / "labelsTr").mkdir(parents=True)
    for case, (image, label) in files.items():
        space.add_images(case, [image])
        (space.raw / "labelsTr" / label.name).symlink_to(label.resolve())
    dataset_json = json.loads((scans / "dataset.json").read_text()) | {"numTraining": len(cases)}
    (space.raw / "dataset.json").write_text(json.dumps(dataset_json, indent=1))
    split = [{"train": parts["pool"], "val": parts["test"]}]
    (folder / "splits_final.json").write_text(json.dumps(split, indent=1))
    return space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnUNet_raw and the split are made")
    folder = parser.parse_args().folder.resolve()
    space = make_pair(folder, test_data())
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (folder / name).mkdir(exist_ok=True)
        print(f"export {name}={folder / name}")
    split, model = folder / "splits_final.json", space.models[CONFIGURATION]
    print(
        f"nnunet_active benchmark -d 207 -c {CONFIGURATION} -m {model} --split-file {split} --seeds 3 -o {folder / 'benchmark'}"
    )


if __name__ == "__main__":
    main()
