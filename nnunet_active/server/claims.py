"""Records which annotator works on which case, so that no case is given out twice, even after a restart of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import RLock

from nnunet_active.util.atomic import write_json
from nnunet_active.util.state_file import read_state

CLAIMS = "served.json"
NAMELESS = ("", "user-xyz")
"""Names that a client sends if its user set none ("user-xyz" is the default of the 3D Slicer module)."""

_WORKING, _SENT, _TAKEN = "working", "sent", "taken"


@dataclass
class _Claim:
    """The claim on one case: the annotator's name, its state, and the last round that had asked for the case when it was shown."""

    client: str
    state: str = _WORKING
    round: int = 0


class Claims:
    """The claims of a campaign, kept in its folder. A claim ends when a later round asks for the case again.

    Args:
        folder: folder of the campaign.
        has_label: whether a label of a case is in ``labelsTr``. A label that was sent may be taken out before it counts; then somebody
            has to draw the case again.
    """

    def __init__(self, folder: Path, has_label: Callable[[str], bool] = lambda case: True) -> None:
        self._has_label = has_label
        self._file = folder / CLAIMS
        self._lock = RLock()
        self._claims: dict[str, _Claim] = {}
        if self._file.is_file():
            advice = "delete it, and nobody has a case"
            self._claims = read_state(self._file, dict[str, _Claim], "the list of who has which case", advice)

    def next(self, client: str, look: Callable[[], Mapping[str, int]]) -> str | None:
        """Give an annotator a case; None if nothing is left for this annotator.

        This is the first case that nobody has. If there is none, it is the annotator's own case that was given out longest ago.
        Annotators without a name cannot be told apart, so they never get a case a second time.

        Args:
            client: the name that the annotator's program sends.
            look: gives the cases that wait for a label, in order of preference, each with the round that asked for it. It is called
                while no label can be recorded as sent, so that a case whose label arrives right now is not given out again.
        """
        with self._lock:
            waiting = look()
            free = [case for case, number in waiting.items() if self._is_free(case, number)]
            own = [case for case, one in self._claims.items() if one == _Claim(client, round=waiting.get(case, -1))]
            if free:
                case = free[0]
            elif own and client not in NAMELESS:
                case = own[0]
            else:
                return None
            self._set(case, _Claim(client, round=waiting[case]))
            return case

    def holder(self, case: str) -> str | None:
        """The annotator who was given a case; None if nobody was."""
        with self._lock:
            return self._claims[case].client if case in self._claims else None

    def claim(self, case: str, client: str, number: int, in_slices: bool = False) -> str:
        """The annotator who has a waiting case that round ``number`` asked for; if nobody has it, ``client`` gets it.

        If rounds ask for slices, an annotator who was shown the case for an earlier round keeps that round, since slices that were not
        shown cannot be labelled.
        """
        with self._lock:
            own = self._claims.get(case)
            shown_before = in_slices and own is not None and own.client == client and own.round < number
            if self._is_free(case, number) and not shown_before:
                self._set(case, _Claim(client, round=number))
            return self._claims[case].client

    def shown(self, case: str) -> int | None:
        """The last round that had asked for a case when its annotator was shown it; None if nobody was shown it."""
        with self._lock:
            return self._claims[case].round if case in self._claims else None

    def sent(self, case: str, client: str, number: int, taken: bool) -> None:
        """Record that a label was accepted.

        Args:
            case: the case.
            client: the annotator.
            number: number of the round that the label answers.
            taken: whether the campaign already counts the label; otherwise it waits for the process that holds the campaign.
        """
        with self._lock:
            self._set(case, _Claim(client, _TAKEN if taken else _SENT, number))

    def free(self) -> list[str]:
        """Take back all cases that annotators have without having sent a label that is still there; returns these cases."""
        with self._lock:
            freed = [case for case, one in self._claims.items() if one.state == _WORKING or self._is_lost(case, one)]
            self._claims = {case: one for case, one in self._claims.items() if case not in freed}
            self._write()
            return freed

    def _is_free(self, case: str, number: int) -> bool:
        one = self._claims.get(case)
        return one is None or one.state == _TAKEN or one.round < number or self._is_lost(case, one)

    def _is_lost(self, case: str, one: _Claim) -> bool:
        return one.state == _SENT and not self._has_label(case)

    def _set(self, case: str, claim: _Claim) -> None:
        self._claims.pop(case, None)  # the newest comes last
        self._claims[case] = claim
        self._write()

    def _write(self) -> None:
        write_json(self._file, {case: asdict(one) for case, one in self._claims.items()})
