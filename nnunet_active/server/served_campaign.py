"""The part of a campaign that the server shows: the cases that were handed over, one channel of each, and their predictions.

The campaign is read again for every request, since commands change it while the server runs. Nothing is written here.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nnunet_active.annotation.label_colours import Label, labels_of
from nnunet_active.annotation.records import file_sha256
from nnunet_active.annotation.seg_nrrd import write_seg_nrrd
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.file_endings import SLICER_ENDING, carries_geometry
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.image_headers import channels_apart
from nnunet_active.data.label_folder import LabelFolder
from nnunet_active.data.maps import read_in_file_order
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.nnunet.nnunet_paths import raw_folder
from nnunet_active.rounds.labels_at_hand import handoff_content
from nnunet_active.util.errors import BadCase, CampaignError, MissingInput
from nnunet_active.workspace import Workspace


class AnotherCampaign(CampaignError):
    """Another campaign began in the fold since the server started; nobody may be given its cases by this server."""


@dataclass(frozen=True)
class ServedCase:
    """A case that was handed over.

    Attributes:
        image: file of the channel to open first; of the first channel if they do not lie on one grid.
        channel: name of that channel.
        prediction: archived file of the prediction that was handed over.
        waits: whether the case, or slices of it, still wait for a label.
        round: number of the last round that asked for it.
        slices: slices to label; None for the whole scan.
    """

    image: Path
    channel: str
    prediction: Path
    waits: bool
    round: int
    slices: SliceRequest | None = None


class ServedCampaign:
    """One campaign.

    Args:
        dataset: full name.
        fold: fold of the campaign.

    Raises:
        MissingInput: there is no campaign, or its images cannot be served.
        CampaignError: the campaign does not ask people for labels.
    """

    def __init__(self, dataset: str, fold: str) -> None:
        self.dataset, self.fold = dataset, fold
        workspace = Workspace(self.dataset, self.fold)
        self._begun = workspace.campaign.adopt().begun
        if not workspace.campaign.asks_a_person:
            raise CampaignError(
                "The labels of this campaign are there and only withheld (retrospective): nothing is to be annotated."
            )
        self._ending = workspace.dataset_json["file_ending"]
        if not carries_geometry(self._ending):
            raise MissingInput(
                f"Images that end in {self._ending} do not say where they lie and cannot be served; label them in the hand-off folder."
            )
        self.folder = workspace.campaign.folder
        self.channels = len(workspace.channel_names)

    def _look(self) -> Workspace:
        workspace = Workspace(self.dataset, self.fold)
        if workspace.campaign.adopt().begun != self._begun:
            raise AnotherCampaign(
                f"Fold {self.fold} of {self.dataset} has another campaign by now; end this server and start serve again."
            )
        return workspace

    def cases(self) -> dict[str, ServedCase]:
        """Every case that was handed over and whose files exist, oldest round first, then in order of preference."""
        workspace = self._look()
        campaign, raw, channels = workspace.campaign, workspace.raw, workspace.channel_names
        waiting, found = set(campaign.waiting()), {}
        for one in campaign.rounds:
            content = handoff_content(campaign.handoff_folder(one.number))
            for case in one.requested:
                prediction = campaign.predictions_folder(one.number) / f"{case}{raw.file_ending}"
                if case not in content or case not in raw.cases or not prediction.is_file():
                    continue
                first = content[case].get("open_first")
                index = channels.index(first) if first in channels else 0
                slices, waits = None, case in waiting
                if waits and case in one.slices:  # slices of a later round that was not handed over yet are not shown
                    slices = campaign.waiting_slices()[case].within(campaign.handed_slices(case, one.number))
                    waits = slices is not None
                images = raw.cases[case].images
                # a label has to lie on the grid of the first channel, beside which this one may lie
                if index and not _on_one_grid(
                    *((file, file.stat().st_mtime_ns) for file in (images[0], images[index]))
                ):
                    index = 0
                found.pop(case, None)
                found[case] = ServedCase(images[index], channels[index], prediction, waits, one.number, slices)
        return found

    def has_label(self, case: str) -> bool:
        """Whether ``labelsTr`` has a label of a case, counted or not."""
        return LabelFolder(raw_folder(self.dataset) / "labelsTr", self._ending).label_of(case) is not None

    def labels(self) -> list[Label]:
        """The labels that may be drawn, in order of value."""
        content = self._look().dataset_json
        ignore = ignore_value(content)
        return [label for label in labels_of(content) if label.value != ignore]

    def prediction(self, case: str, served: ServedCase) -> bytes:
        """The prediction as a 3D Slicer segmentation; if slices are asked for, only in these.

        Raises:
            BadCase: the files of the case no longer fit together.
        """
        workspace = self._look()
        ending = workspace.raw.file_ending
        try:
            label = read_in_file_order(served.prediction, ending)
            if served.slices is not None:
                label = keep_slices(label, NUMPY_AXIS[served.slices.axis], served.slices.slices, 0)
            label = label.astype(np.uint8 if label.max(initial=0) < 256 else np.uint16)
            space = Geometry.of_file(served.image, label.shape)
            nrrd = served.image if ending.lower() == ".nrrd" else None
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"{case}{SLICER_ENDING}"
                write_seg_nrrd(label, self.labels(), space, file, nrrd)
                return file.read_bytes()
        except (OSError, RuntimeError, ValueError) as error:
            raise BadCase(
                f"Case {case}: what was predicted cannot be shown, it does not fit the image any more."
            ) from error


def checksum(file: Path) -> str:
    """Checksum of a file's content, in 3D Slicer's form."""
    status = file.stat()
    return _checksum(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _checksum(file: Path, changed: int, size: int) -> str:
    return f"SHA256:{file_sha256(file)}"


@lru_cache(maxsize=4096)
def _on_one_grid(*files_and_times: tuple[Path, int]) -> bool:
    return not channels_apart([file for file, _ in files_and_times])
