"""A temporary nnU-Net workplace for the benchmarks: raw cases, plans from a source model, preprocessed cases."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

GLIOMA = "Dataset204_GliomaTarget"
PLANS = "nnUNetActivePlans"
ENDING = ".nii.gz"


def test_data() -> Path:
    """The folder with the real scans and source models: ``NNUNET_ACTIVE_TEST_DATA``, else beside the repository."""
    named = os.environ.get("NNUNET_ACTIVE_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "models").is_dir():
        raise SystemExit(f"No real scans at {folder}; set NNUNET_ACTIVE_TEST_DATA to their folder.")
    return folder


def glioma_model(configuration: str) -> Path:
    return test_data() / "models" / "Dataset203_GliomaSource" / f"nnUNetTrainer__nnUNetPlans__{configuration}"


@dataclass(frozen=True)
class Workspace:
    """``root/nnUNet_raw/<dataset>`` and ``root/nnUNet_preprocessed/<dataset>``; ``models``: configuration -> model folder."""

    root: Path
    dataset: str
    models: dict[str, Path]

    @property
    def raw(self) -> Path:
        """The raw data set."""
        return self.root / "nnUNet_raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        """Its preprocessed copy."""
        return self.root / "nnUNet_preprocessed" / self.dataset

    def add_images(self, case: str, images: Iterable[Path]) -> None:
        """Link the images of a case; no label is needed to score it."""
        (self.raw / "imagesTr").mkdir(parents=True, exist_ok=True)
        for channel, image in enumerate(images):
            (self.raw / "imagesTr" / f"{case}_{channel:04d}{ENDING}").symlink_to(image.resolve())

    def add_glioma_cases(self, cases: Iterable[str]) -> None:
        """Link the images of these cases of the glioma target."""
        for case in cases:
            self.add_images(
                case, sorted((test_data() / "nnUNet_raw" / GLIOMA / "imagesTr").glob(f"{case}_????{ENDING}"))
            )

    def prepare(self, dataset_json: dict) -> None:
        """Plan from the source models alone, and preprocess every case in this process."""
        from nnunet_active.data.cases import CaseStore
        from nnunet_active.data.preprocessing import preprocess_dataset
        from nnunet_active.data.raw_dataset import RawDataset
        from nnunet_active.planners.source_model_planner import SourceModelPlanner

        (self.raw / "dataset.json").write_text(json.dumps(dataset_json))
        for configuration, model in self.models.items():
            planner = SourceModelPlanner(
                self.raw, model, configuration, plans_name=PLANS, preprocessed_dataset_folder=self.preprocessed
            )
            planner.write()
            plans = json.loads(planner.plans_file.read_text())
            store = CaseStore(self.preprocessed, plans, configuration)
            report = preprocess_dataset(RawDataset(self.raw), store, dataset_json, 1, progress=False)
            if report.problems:
                raise SystemExit("\n".join(report.problems.values()))

    def links_to(self, cases: Iterable[str], folder: Path) -> Path:
        """A folder with the raw images of these cases only, for ``nnUNetv2_predict -i``."""
        folder.mkdir(parents=True)
        for case in cases:
            for image in (self.raw / "imagesTr").glob(f"{case}_????{ENDING}"):
                (folder / image.name).symlink_to(image.resolve())
        return folder


def glioma_dataset_json() -> dict:
    return json.loads((test_data() / "nnUNet_raw" / GLIOMA / "dataset.json").read_text())


def glioma_cases() -> list[str]:
    """All cases of the target, those with the most voxels first."""
    import SimpleITK as sitk

    def voxels(case: str) -> int:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(test_data() / "nnUNet_raw" / GLIOMA / "imagesTr" / f"{case}_0000{ENDING}"))
        reader.ReadImageInformation()
        x, y, z = reader.GetSize()
        return x * y * z

    labels = (test_data() / "nnUNet_raw" / GLIOMA / "labelsTr").glob(f"*{ENDING}")
    return sorted(sorted(file.name.removesuffix(ENDING) for file in labels), key=voxels, reverse=True)


def write_model_with_classes(model: Path, labels: dict[str, int], folder: Path) -> Path:
    """The source model with further classes in its head (zero weights), as a stock model folder."""
    from nnunet_active.models.model_writing import save_source_model
    from nnunet_active.models.source_model import carry_over, read_source_model
    from nnunet_active.nnunet.networks import build_network

    source = read_source_model(model)
    dataset_json = {**source.dataset_json, "labels": labels}
    network = build_network(source.plans, source.configuration, dataset_json)
    carry_over(network, source, source.plans, dataset_json)
    save_source_model(replace(source, dataset_json=dataset_json, weights=network.state_dict()), folder)
    return folder


def write_resized_case(
    case: str, shape: tuple[int, int, int], spacing: tuple[float, float, float], folder: Path
) -> list[Path]:
    """The channels of a real case, stretched to ``shape`` (Z, Y, X) voxels and said to have that spacing (x, y, z)."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for image in sorted((test_data() / "nnUNet_raw" / GLIOMA / "imagesTr").glob(f"{case}_????{ENDING}")):
        original = sitk.Cast(sitk.ReadImage(str(image)), sitk.sitkFloat32)
        size = tuple(reversed(shape))
        step = [s * n / m for s, n, m in zip(original.GetSpacing(), original.GetSize(), size, strict=True)]
        resized = sitk.Resample(
            original,
            size,
            sitk.Transform(),
            sitk.sitkLinear,
            original.GetOrigin(),
            step,
            original.GetDirection(),
        )
        resized.SetSpacing(spacing)
        files.append(folder / image.name)
        sitk.WriteImage(resized, str(files[-1]))
    return files
