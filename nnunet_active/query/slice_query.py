"""Chooses the slices of a query: the strategy chooses scans, and a rule chooses slices of each (see ``strategies/slice_choice``). A
campaign of whole scans uses the same code and gets no slices.

The prediction in a slice comes from the forward pass that scored the scan. A scan that was not scored, because the strategy needs no
network, gets one forward pass here.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.maps import to_file_order
from nnunet_active.data.slice_map import SliceMap, map_along, slice_maps
from nnunet_active.nnunet.window import Window
from nnunet_active.query.pool_scoring import leaving_out
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.scoring.slice_sums import DIFFICULTY, FOREGROUND
from nnunet_active.strategies.slice_choice import choose_slices, extent, scans_for, share_out, steady_difficulty

_NAMES = [name.format(axis) for name in (FOREGROUND, DIFFICULTY) for axis in range(3)]


@dataclass(frozen=True)
class SliceChoice:
    """The slices that a query asks for.

    Attributes:
        requests: requested slices by case, in the order of the picks; empty if whole cases are asked for.
        facts: the reasons for the choice by case, for ``selection.json``, along the axis of the stored image.
    """

    requests: dict[str, SliceRequest] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


class SliceQuery:
    """Slices of the scans of one campaign.

    Args:
        campaign: its settings say how to choose slices, and its rounds which slices were asked for before.
        store: the preprocessed images.
    """

    def __init__(self, campaign: Campaign, store: CaseStore) -> None:
        self.campaign, self.store = campaign, store
        self._asked = campaign.asked_slices()
        self._known = campaign.known_slices()
        self._transpose = store.plans_manager.transpose_forward

    def along(self, case: str, shape: Sequence[int] | None = None) -> SliceMap:
        """The slices of a scan along the campaign's axis, or along the axis of an earlier request.

        Args:
            case: identifier.
            shape: (Z, Y, X) of its preprocessed array; None if it does not matter.
        """
        properties = self.store.properties(case)
        shape = properties["shape_after_cropping_and_before_resampling"] if shape is None else shape
        maps = slice_maps(properties, self._transpose, shape, to_file_order)
        if case in self._asked:
            return maps[self._asked[case].axis]
        return map_along(maps, self.campaign.settings.axis)

    def open_slices(self, case: str) -> int:
        """Number of slices of a scan that may still be asked for."""
        one = self.along(case)
        return one.slices - len(self._closed(case, one))

    def is_begun(self, case: str) -> bool:
        """Whether some slices of a scan are labelled or were asked for."""
        return case in self._asked or case in self._known

    def candidates(
        self, cases: Sequence[str], count: int, must: Sequence[str] = (), scans: int | None = None
    ) -> tuple[list[str], int, tuple[str, ...]]:
        """The scans to choose from, how many to choose, and the scans that are all chosen before any other.

        Scans without any labelled or requested slice come first. If they are too few, all scans with open slices are candidates.

        Args:
            cases: scans that the campaign may ask for.
            count: number of slices; in a campaign of whole scans, of scans.
            must: scans that are always candidates.
            scans: number of scans to spread the slices over; None for all if there are enough slices, else as few as hold them.
        """
        if not self.campaign.asks_for_slices:
            return list(cases), count, ()
        free = {case: self.open_slices(case) for case in cases}
        left = [case for case in cases if free[case]]
        most = self.campaign.settings.per_case
        number = scans_for(count, [free[case] for case in left], most) if scans is None else min(scans, len(left))
        fresh = [case for case in left if not self.is_begun(case)]
        found, first = (fresh, ()) if len(fresh) >= number else (left, tuple(fresh))
        return sorted({*found, *must}), number, first

    def choose(
        self,
        picks: Sequence[str],
        count: int,
        window: Window,
        cache: ScoreCache,
        seed: Sequence[int],
        trusted: bool = True,
    ) -> SliceChoice:
        """Choose slices of the chosen scans.

        Args:
            picks: scans in order of preference.
            count: total number of slices.
            window: the querying network.
            cache: cache of its scores.
            seed: seed of random draws.
            trusted: False if its predictions mean nothing (an untrained head); then the whole scan counts.
        """
        if not self.campaign.asks_for_slices:
            return SliceChoice()
        settings = self.campaign.settings
        shares = share_out(count, [self.open_slices(case) for case in picks], settings.per_case)
        digest = window.digest
        choice = SliceChoice()
        for case, share in zip(picks, shares, strict=True):
            if not share:
                continue
            with leaving_out(case):
                foreground, difficulty, one = self._predicted(case, window, cache, digest)
            foreground = foreground if trusted else np.zeros_like(foreground)
            rng = np.random.default_rng([*seed, zlib.crc32(case.encode())])
            closed = self._closed(case, one)
            slices = choose_slices(foreground, difficulty, share, closed, settings.slices, rng)
            choice.requests[case] = SliceRequest(one.axis, tuple(slices))
            steady = steady_difficulty(foreground, difficulty)
            choice.facts[case] = {
                "axis": one.axis,
                "rule": settings.slices,
                "of": one.slices,
                "extent": list(extent(foreground)) if foreground.any() else None,
                "slices": slices,
                "foreground": [round(float(foreground[index]), 1) for index in slices],
                "difficulty": [round(float(steady[index]), 6) for index in slices],
            }
        return choice

    def _closed(self, case: str, one: SliceMap) -> set[int]:
        """Slices that were asked for, are labelled, or lie completely outside the crop."""
        before = [found[case].slices for found in (self._asked, self._known) if case in found]
        return {int(index) for index in np.flatnonzero(~one.is_imaged())}.union(*before)

    def _predicted(
        self, case: str, window: Window, cache: ScoreCache, digest: str
    ) -> tuple[np.ndarray, np.ndarray, SliceMap]:
        """Foreground and difficulty of every stored slice, and the map of the slices."""
        state = self.store.image_state(case)
        entry = cache.get(digest, case, state)
        if entry is not None and entry.arrays.keys() >= set(_NAMES):
            found = entry.arrays
        else:
            voxel = float(np.prod(self.store.spacing(case)))
            found = window.score(self.store.load_image(case), voxel, embedding=False).slices
            cache.add(digest, case, state, {}, found)
        one = self.along(case, [len(found[FOREGROUND.format(axis)]) for axis in range(3)])
        foreground = found[FOREGROUND.format(one.preprocessed_axis)]
        difficulty = found[DIFFICULTY.format(one.preprocessed_axis)]
        return one.sums(foreground), one.means(difficulty, foreground), one
