"""Who works on which case: nobody gets a case that somebody else was given, also after the server was started again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import RLock

from nnunet_active.util.atomic import write_json
from nnunet_active.util.state_file import read_state

CLAIMS = "served.json"
NAMELESS = ("", "user-xyz")
"""What a client calls itself where its user gave it no name ("user-xyz": the module of 3D Slicer)."""

_WORKING, _SENT, _TAKEN = "working", "sent", "taken"


@dataclass
class _Claim:
    """Of one case: the annotator's name, how far it is, and the last round of those that had asked for the case when it was shown."""

    client: str
    state: str = _WORKING
    round: int = 0


class Claims:
    """The claims of a campaign, kept in its folder. A claim ends when a later round asks for the case again.

    Args:
        folder: of the campaign.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / CLAIMS
        self._lock = RLock()
        self._claims: dict[str, _Claim] = {}
        if self._file.is_file():
            advice = "delete it, and nobody has a case"
            self._claims = read_state(self._file, dict[str, _Claim], "the list of who has which case", advice)

    def next(self, client: str, look: Callable[[], Mapping[str, int]]) -> str | None:
        """Give an annotator a case; None: nothing is left for this one.

        The first case that nobody has; where there is none, the one of the annotator's own that was given out longest ago. Annotators
        without a name of their own cannot be told apart, so that they get no case twice.

        Args:
            client: how the annotator's program calls itself.
            look: says which cases wait for a label, in order of preference, each with the round that asked for it. Called while no
                label is noted as sent: a case whose label comes in at this moment is not given out again.
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
        """The annotator who was given a case; None: nobody was."""
        with self._lock:
            return self._claims[case].client if case in self._claims else None

    def claim(self, case: str, client: str, number: int, in_slices: bool = False) -> str:
        """The annotator who has a waiting case, which the round ``number`` asked for; where nobody has it, ``client`` from now on.

        Where rounds ask for slices, whoever was shown the case for an earlier round keeps that round: slices that were not shown are
        not labelled.
        """
        with self._lock:
            own = self._claims.get(case)
            shown_before = in_slices and own is not None and own.client == client and own.round < number
            if self._is_free(case, number) and not shown_before:
                self._set(case, _Claim(client, round=number))
            return self._claims[case].client

    def shown(self, case: str) -> int | None:
        """The last round of those that had asked for a case when its annotator was shown it; None: nobody was."""
        with self._lock:
            return self._claims[case].round if case in self._claims else None

    def sent(self, case: str, client: str, number: int, taken: bool) -> None:
        """A label was accepted.

        Args:
            case: of which.
            client: whose.
            number: of the round that it answers.
            taken: whether the campaign counts it already; else it waits for whoever holds the campaign.
        """
        with self._lock:
            self._set(case, _Claim(client, _TAKEN if taken else _SENT, number))

    def free(self) -> list[str]:
        """Take all cases back that somebody has and has sent no label of; returns them."""
        with self._lock:
            freed = [case for case, one in self._claims.items() if one.state == _WORKING]
            self._claims = {case: one for case, one in self._claims.items() if case not in freed}
            self._write()
            return freed

    def _is_free(self, case: str, number: int) -> bool:
        one = self._claims.get(case)
        return one is None or one.state == _TAKEN or one.round < number

    def _set(self, case: str, claim: _Claim) -> None:
        self._claims.pop(case, None)  # the newest comes last
        self._claims[case] = claim
        self._write()

    def _write(self) -> None:
        write_json(self._file, {case: asdict(one) for case, one in self._claims.items()})
