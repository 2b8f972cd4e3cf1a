"""Answers the protocol's requests for a campaign. It knows nothing of HTTP; the annotator reads the text of an error."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from nnunet_active import __version__
from nnunet_active.data.file_endings import SLICER_ENDING, SPATIAL_ENDINGS
from nnunet_active.nnunet.nnunet_paths import known_roots
from nnunet_active.server.claims import NAMELESS, Claims
from nnunet_active.server.served_campaign import ServedCampaign, ServedCase, checksum
from nnunet_active.server.submission import receive
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput

MODEL, STRATEGY = "nnU-Net", "worklist"
LIMITS = (
    "The protocol shows one scalar volume a case: the channel that the worklist names first (of channels that lie apart, the data "
    "set's first); the uncertainty map is in the hand-off folder only. 'Run' gives the prediction that was handed over. Nothing is "
    "trained here."
)


class UnknownName(ActiveError):
    """A request names a case, a model or a strategy that is not served."""


class AnnotationService:
    """Serves one campaign to several annotators at once.

    Args:
        served: the served part of the campaign.
    """

    def __init__(self, served: ServedCampaign) -> None:
        self.served, self.claims = served, Claims(served.folder, served.has_label)
        self._taking = threading.Lock()

    def info(self) -> dict[str, Any]:
        """What the module lists when it connects. A top-level key ``config`` would make it think that the server is too old."""
        names = [label.name for label in self.served.labels()]
        model = {"type": "segmentation", "labels": names, "dimension": 3, "description": LIMITS, "config": {}}
        return {
            "name": f"{self.served.dataset}, fold {self.served.fold}",
            "description": f"nnunet_active: cases that wait for a label. {LIMITS}",
            "version": __version__,
            "labels": names,
            "models": {MODEL: model},
            "trainers": {},
            "strategies": {STRATEGY: {"description": "the next case of the worklist"}},
            "scoring": {},
            "train_stats": {},
            "datastore": self.stats(),
        }

    def stats(self) -> dict[str, Any]:
        """Number of cases that were handed over, and number of those that have their label."""
        cases = self.served.cases()
        done = sum(not one.waits for one in cases.values())
        return {"total": len(cases), "completed": done, "label_tags": {"final": done, "original": len(cases)}}

    def next_sample(self, strategy: str, client: str) -> dict[str, Any]:
        """The next case for an annotator; empty if none is left.

        Raises:
            UnknownName: there is no such strategy.
        """
        if strategy != STRATEGY:
            raise UnknownName(f"There is no strategy {strategy[:50]!r} here; take {STRATEGY!r}.")
        case = self.claims.next(client, self._waiting)
        if case is None:
            return {}
        one = self.case(case)
        shown = {} if one.slices is None else {"PatientID": f"{case}: {one.slices.words()} only"}
        ending = _ending_of(one.image)
        return {
            "id": case,
            "name": f"{case}_{one.channel.replace('/', '-')}{ending}",
            "checksum": checksum(one.image),
            "ts": int(time.time()),
            "strategy": {STRATEGY: {"client_id": client}},
            **shown,
        }

    def _waiting(self) -> dict[str, int]:
        return {name: one.round for name, one in self.served.cases().items() if one.waits}

    def datastore(self) -> dict[str, Any]:
        """The waiting cases, in the form that the module expects."""
        labels = {label.name: label.value for label in self.served.labels()}
        original = {"ext": SLICER_ENDING, "info": {"params": {"label_names": labels}}}
        objects = {
            case: {"image": {"ext": _ending_of(one.image), "info": {}}, "labels": {"original": original}}
            for case, one in self.served.cases().items()
            if one.waits
        }
        about = {"name": self.served.dataset, "description": LIMITS, "images_dir": "", "labels_dir": ""}
        return {**about, "objects": objects}

    def case(self, name: str) -> ServedCase:
        """A case that was handed over.

        Raises:
            UnknownName: there is no case of that name.
        """
        cases = self.served.cases()
        if name not in cases:
            raise UnknownName(f"There is no case {name[:80]!r} here.")
        return cases[name]

    def predicted(self, name: str) -> tuple[bytes, dict[str, int]]:
        """The prediction of a case as a 3D Slicer segmentation, and the value of each label.

        Raises:
            UnknownName: there is no such case.
            BadCase: the prediction cannot be shown.
        """
        return self.served.prediction(name, self.case(name)), {one.name: one.value for one in self.served.labels()}

    def submit(self, name: str, client: str, sent: Path, file_name: str, segments: list[str] | None) -> dict[str, Any]:
        """Take an annotator's label.

        Raises:
            UnknownName: there is no such case.
            CampaignError: the case was given to somebody else, or has its label already.
            BadCase: the label is refused; the message says why.
        """
        with self._taking:
            case = self.case(name)
            number = self._round_of_holder(name, client, case)
            where = (self.served.dataset, self.served.fold, self.served.folder, number)
            try:
                received = receive(where, name, case.image, sent, file_name, segments)
            except ActiveError as error:
                raise type(error)(without_folders(str(error))) from error
            self.claims.sent(name, client, number, received.taken)
            now = self.case(name)
        notes = [without_folders(note) for note in received.notes]
        if number < now.round and now.waits and now.slices is not None:
            notes.append(
                f"Case {name}: more was asked for since you were given it ({now.slices.words()}); press Next Sample."
            )
        return {"image": name, "label": name, "taken": received.taken, "notes": notes}

    def _round_of_holder(self, name: str, client: str, case: ServedCase) -> int:
        """Give a case that nobody has to the annotator who sends a label for it, so that nobody else gets it meanwhile.

        Returns:
            The round that the label answers; the annotator was not shown what later rounds ask for.
        """
        in_slices = case.slices is not None
        holder = self.claims.claim(name, client, case.round, in_slices) if case.waits else self.claims.holder(name)
        if holder is not None and holder != client:
            raise CampaignError(
                f"Case {name} was given to {_called(holder)}, so that no label of it is taken from {_called(client)}."
            )
        if holder is None:
            raise CampaignError(f"Case {name} has its label already; correct it in the hand-off folder.")
        return min(self.claims.shown(name), case.round) if in_slices else case.round


def without_folders(sentence: str) -> str:
    """The sentence without this machine's folders, which remote annotators need not know."""
    for root in known_roots():
        for folder in (root, root.resolve()):
            sentence = sentence.replace(f"{folder}/", "")
    return sentence


def check_served(service: AnnotationService, command: str) -> int:
    """The number of cases that wait.

    Raises:
        MissingInput: no waiting case was handed over; the message names the command that does it.
    """
    waiting = sum(one.waits for one in service.served.cases().values())
    if not waiting:
        raise MissingInput(
            f"No case is handed over and waits for a label; {command} hands over those that were asked for."
        )
    return waiting


def _called(client: str) -> str:
    return "an annotator without a name" if client in NAMELESS else f"{client[:80]!r}"


def _ending_of(image: Path) -> str:
    return next(ending for ending in SPATIAL_ENDINGS if image.name.lower().endswith(ending))
