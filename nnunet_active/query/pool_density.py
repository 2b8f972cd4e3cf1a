"""Density of a pool: how many other images resemble each image, from small cached signatures of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_active.data.cases import CaseStore, image_digest
from nnunet_active.scoring import density
from nnunet_active.scoring.neighbours import neighbours_in_pool
from nnunet_active.util.atomic import atomic_file
from nnunet_active.util.errors import BadCase, EmptyPool, MissingInput
from nnunet_active.util.log import Log, silent
from nnunet_active.util.ranks import Ranks

KEPT_AFTER, MOST_WRITES = 500, 10
"""Signatures are written after this many images, so that a kill loses no more than these; in a large pool at most ten times."""
MOST_SHOWN = 20
"""Most entries of the neighbour histogram that are logged one by one."""


def density_of_cases(
    store: CaseStore, cases: Sequence[str], cache: Path, ranks: Ranks | None = None, log: Log = silent
) -> pd.Series:
    """Representativeness rho (mmActS) of every case among ``cases``. An image is read again only if its file has changed.

    Args:
        store: the preprocessed images.
        cases: the whole target training pool, labelled and unlabelled.
        cache: ``.npz`` file of the images' signatures; written atomically.
        ranks: distributes the images over processes.
        log: gets the radius, the neighbour histogram and warnings.
    """
    ranks = ranks or Ranks()
    cases = sorted(cases)
    known = ranks.decide(lambda: _Signatures.read(cache))
    states = {}
    for case in tuple(cases):
        try:
            states[case] = store.image_state(case)
        except (MissingInput, OSError) as error:  # the file is gone, or cannot be read
            log(f"WARNING: {error} It is left out of the density.")
            cases.remove(case)
    changed = [case for case in cases if known.seen.get(case, ((), ""))[0] != states[case]]
    added = False
    step = max(KEPT_AFTER, -(-len(changed) // MOST_WRITES))
    for some in (changed[first : first + step] for first in range(0, len(changed), step)):
        work = SignatureWork(store, frozenset(known.by_digest))
        for case, found in ranks.each(work, some, "Density of the pool").items():
            if isinstance(found, str):
                log(f"WARNING: {found} It is left out of the density.")
                cases.remove(case)
                continue
            digest, signature = found
            known.seen[case] = states[case], digest
            if signature is not None:
                known.by_digest[digest] = signature
                added = True
        if known.by_digest:
            ranks.decide(lambda: known.write(cache))
    if not cases:
        raise EmptyPool("No image of the pool can be read.")
    neighbours, radius = neighbours_in_pool([known.by_digest[known.seen[case][1]] for case in cases])
    if added:
        histogram = density.neighbour_histogram(neighbours)
        several = ", ".join(f"{n}: {c}" for n, c in histogram.items())
        if len(histogram) > MOST_SHOWN:
            several = f"{min(histogram)} to {max(histogram)}, median {np.median(neighbours):g}"
        log(
            f"Density of {len(cases)} cases, radius {radius:.4g} (0.1 quantile of the distances); neighbours: cases {{{several}}}"
        )
    return pd.Series(neighbours / len(cases), index=cases, name="density")


@dataclass(frozen=True)
class SignatureWork:
    """Digest and signature of one image; the signature is None if ``known`` has the digest. For a damaged file, a sentence."""

    store: CaseStore
    known: frozenset[str]
    queues = False

    def load(self, case: str) -> np.ndarray | str:
        """The image (M, Z, Y, X) float32."""
        try:
            return self.store.load_image(case)
        except BadCase as error:
            return str(error)

    def begin(self, case: str, loaded: np.ndarray | str) -> Callable[[], tuple[str, np.ndarray | None] | str]:
        """Return the computation without starting it."""
        return partial(self._signature, case, loaded)

    def _signature(self, case: str, loaded: np.ndarray | str) -> tuple[str, np.ndarray | None] | str:
        """Use the digest of the voxels: a copied file has a new time but the same voxels."""
        if isinstance(loaded, str):
            return loaded
        digest = image_digest(loaded)
        try:
            return digest, None if digest in self.known else density.case_signature(loaded)
        except ValueError as error:  # a voxel is not a number
            return f"{case}: {error}."


@dataclass
class _Signatures:
    """The signatures by digest of the image's voxels; and for each case, the state and the digest of its file when last read."""

    by_digest: dict[str, np.ndarray]
    seen: dict[str, tuple[tuple[int, int], str]]

    @classmethod
    def read(cls, file: Path) -> _Signatures:
        known = cls({}, {})
        if not file.is_file():
            return known
        try:
            with np.load(file) as content:
                by_digest = dict(zip(content["digests"].tolist(), content["signatures"], strict=True))
                seen = {}
                if "cases" in content:  # files of earlier versions have none
                    states = map(tuple, content["states"].tolist())
                    entries = zip(content["cases"].tolist(), states, content["case_digests"].tolist(), strict=True)
                    seen = {case: (state, digest) for case, state, digest in entries if digest in by_digest}
            lengths = {signature.shape for signature in by_digest.values()}
            if len(lengths) == 1 and all(np.isfinite(signature).all() for signature in by_digest.values()):
                known.by_digest, known.seen = by_digest, seen
        except Exception:  # damaged: everything is computed again
            return known
        return known

    def write(self, file: Path) -> None:
        """Write what some case still uses and what has the newest signature's shape: images may have got another number of channels."""
        used, shape = {digest for _, digest in self.seen.values()}, next(reversed(self.by_digest.values())).shape
        kept = {digest: one for digest, one in self.by_digest.items() if digest in used and one.shape == shape}
        seen = {case: one for case, one in self.seen.items() if one[1] in kept}
        if not kept:
            return
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                digests=np.array(list(kept), dtype=str),
                signatures=np.stack(list(kept.values())),
                cases=np.array(list(seen), dtype=str),
                states=np.array([state for state, _ in seen.values()], dtype=np.int64),
                case_digests=np.array([digest for _, digest in seen.values()], dtype=str),
            )
