"""Read-only queries about slices: which were asked for, which are labelled, and how many still wait.

In a campaign of whole cases, there are no requests for slices: these answers are empty, and each case counts as one.
"""

from __future__ import annotations

from nnunet_active.campaign.campaign_state import CampaignState
from nnunet_active.campaign.slice_request import SliceRequest, join_requests


class SliceQuestions:
    """A part of :class:`~nnunet_active.campaign.questions.CampaignQuestions`."""

    _state: CampaignState

    @property
    def asks_for_slices(self) -> bool:
        """Whether the campaign asks for slices; otherwise it asks for whole cases."""
        return self._state.settings.in_slices

    @property
    def unit(self) -> str:
        """What the campaign counts: ``case`` or ``slice``."""
        return self._state.settings.unit

    def asked_slices(self) -> dict[str, SliceRequest]:
        """All slices ever asked for, by case."""
        return join_requests(one.slices for one in self._state.rounds)

    def known_slices(self, epoch: int | None = None) -> dict[str, SliceRequest]:
        """The slices to train on, for every partly labelled case; with ``epoch``: only from rounds made before or at that epoch.

        Slices that nobody asked for count as known from the start.
        """
        known = self._state.labelled_slices
        if epoch is None:
            return dict(known)
        later = join_requests(one.slices for one in self._state.rounds if one.epoch > epoch)
        found = {}
        for case, request in known.items():
            left = tuple(index for index in request.slices if case not in later or index not in later[case].slices)
            if left:
                found[case] = SliceRequest(request.axis, left)
        return found

    def handed_slices(self, case: str, number: int | None = None) -> SliceRequest | None:
        """The slices of a case that may be labelled: all requested and all known ones; None for the whole case.

        With ``number``: without slices that only rounds after that one asked for.
        """
        rounds = [one for one in self._state.rounds if case in one.slices]
        until = [{case: one.slices[case]} for one in rounds if number is None or one.number <= number]
        asked, known = join_requests(until).get(case), self._state.labelled_slices.get(case)
        if asked is None or known is None:
            return known if asked is None else asked
        later = {index for one in rounds for index in one.slices[case].slices} - set(asked.slices)
        return SliceRequest(known.axis, tuple(sorted({*asked.slices, *known.slices} - later)))

    def waiting_slices(self) -> dict[str, SliceRequest]:
        """Requested slices that have no label yet, by case; without those of declined cases."""
        found = {}
        for case, request in self.asked_slices().items():
            known = self._state.labelled_slices.get(case)
            left = tuple(index for index in request.slices if known is None or index not in known.slices)
            if left and case not in self._state.declined:
                found[case] = SliceRequest(request.axis, left)
        return found

    def label_names(self, epoch: int | None = None) -> dict[str, str]:
        """The labels in words, one text per case: its name, and its slices if it is partly labelled."""
        known = self.known_slices(epoch)
        return {case: f"{case}[{known[case].words()}]" if case in known else case for case in self.labelled(epoch)}

    def labels_by_name(self, epoch: int | None = None) -> list[str]:
        """The same texts, in the order of the cases."""
        return list(self.label_names(epoch).values())

    def counted(self, number: int, plural: str = "") -> str:
        """A number of the budget in words: ``30 slices``; for cases, the number alone, or with ``plural``."""
        words = "slices" if self.asks_for_slices else plural
        return f"{number} {words.removesuffix('s') if number == 1 else words}".rstrip()

    def labels_known(self, epoch: int | None = None) -> int:
        """Number of labelled cases or slices; labels from the start count only if cases are counted."""
        if not self.asks_for_slices:
            return len(self.labelled(epoch))
        return sum(len(one.slices) for one in self.known_slices(epoch).values())

    def spent(self) -> int:
        """Number of requested cases or slices; declined ones cost nothing."""
        declined = set(self._state.declined)
        if not self.asks_for_slices:
            return len(set(self.requested()) - declined)
        asked, known = self.asked_slices(), self._state.labelled_slices
        return sum(
            len(request.slices) if case not in declined else len((request.within(known.get(case)) or request).slices)
            for case, request in asked.items()
            if case not in declined or request.within(known.get(case)) is not None
        )
