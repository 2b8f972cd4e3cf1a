"""Embeddings of source scans by the source network itself; only one scan is held at a time, and only its embedding is kept."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nnunet_active.data.dataset_json import channel_names
from nnunet_active.data.image_checks import check_image
from nnunet_active.data.raw_dataset import RawCase, RawDataset
from nnunet_active.models.source_model import SourceModel, carry_over
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.networks import build_network, plans_manager
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput
from nnunet_active.util.progress import bar_is_shown


def read_folder(folder: Path, source: SourceModel) -> RawDataset:
    """A plain folder of images, named CASE_0000 ... with the source's file ending and channels.

    Raises:
        MissingInput: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingInput(f"The folder of source images {folder} was not found.")
    with tempfile.TemporaryDirectory(prefix="nnunet_active_") as scratch:
        (Path(scratch) / "imagesTr").mkdir()
        # without the list of files that the model was trained on: this folder alone is asked for
        content = {key: value for key, value in source.dataset_json.items() if key != "dataset"}
        (Path(scratch) / "dataset.json").write_text(json.dumps(content))
        return RawDataset(Path(scratch), [folder])


def source_embeddings(
    source: SourceModel, raw: RawDataset, device: torch.device, progress: bool = True
) -> tuple[np.ndarray, dict[str, str]]:
    """Preprocess every scan as the source model's plans say, run it through the source network, keep its embedding.

    Args:
        source: the source model.
        raw: scans that it was trained on, or others of that domain; labels are not read.
        device: where to predict.
        progress: whether to show a bar.

    Returns:
        Embeddings (n, d) float32, and a sentence for each case that was set aside.

    Raises:
        IncompatibleSource: the scans have another number of channels than the model.
        MissingInput: no scan was found.
    """
    expected = len(channel_names(source.dataset_json))
    if len(raw.channel_names) != expected:
        raise IncompatibleSource(
            f"{raw.folder} has {len(raw.channel_names)} channels, the source model {source.origin} has {expected}."
        )
    problems = dict(raw.problems)
    if not raw.cases and not problems:
        where = ", ".join(map(str, raw.pool_folders)) or raw.folder / "imagesTr"
        raise MissingInput(f"No image CASE_0000{raw.file_ending} was found in {where}.")
    network = build_network(source.plans, source.configuration, source.dataset_json, source.trainer_name)
    carry_over(network, source, source.plans, source.dataset_json)
    window = SlidingWindow(network.eval(), source.plans, source.configuration, source.dataset_json, device)
    rows = []
    for case in tqdm(raw.cases.values(), desc="Embedding source cases", disable=not bar_is_shown(progress)):
        try:
            rows.append(window.score(_preprocessed(case, source), 1.0).arrays["embedding"])
        except (ActiveError, OSError, ValueError, RuntimeError) as error:
            if "out of memory" in str(error).lower():
                raise
            problems[case.identifier] = f"{case.identifier} is left out ({error})."
    return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32), problems


def _preprocessed(case: RawCase, source: SourceModel) -> np.ndarray:
    manager = plans_manager(source.plans)
    configuration = manager.get_configuration(source.configuration)
    check_image(
        case.identifier, case.images, manager.image_reader_writer_class, len(configuration.normalization_schemes)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        data, _, _ = configuration.preprocessor_class(verbose=False).run_case(
            [str(file) for file in case.images], None, manager, configuration, source.dataset_json
        )
    return np.ascontiguousarray(data, dtype=np.float32)
