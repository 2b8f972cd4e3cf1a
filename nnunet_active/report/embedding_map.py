"""A two-dimensional map of the pool: cases that look alike to a network lie close together.

Embeddings of different rounds come from different networks and cannot be compared. So the map uses only one network: the frozen source
network if a round recorded its embeddings (``source_embedding``), else the network of the first query. The axes are principal
components (scikit-learn's PCA, centred, not scaled), shown with their explained variance (our choice).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.report.svg_plots import embedding_plot

FEWEST = 3
"""Fewest cases for a meaningful map."""
MOST_NAMES = 30
"""Most names on the map; the newest rounds come first."""


def embedding_map(campaign: Campaign) -> dict[str, Any]:
    """The map, or a sentence that says why there is none.

    Returns:
        ``sentence``; with a map also ``svg``, ``explained`` (two shares of the variance), ``network``, ``dimensions``, ``absent``
        (cases asked for that have no embedding of this network), ``unnamed`` and ``rows`` (case, round or None, x, y) for a table.
    """
    network, known = _embeddings(campaign)
    if not known:
        return {"sentence": network}
    cases = sorted(known)
    if len(known) < FEWEST:
        return {"sentence": f"The rounds recorded the embeddings of {len(known)} cases; a map needs {FEWEST}."}
    values = np.stack([known[case] for case in cases])
    if np.allclose(values, values[0]):
        return {"sentence": "The embeddings of all cases are equal; there is no map of them."}
    count = min(2, values.shape[1])
    analysis = PCA(n_components=count, svd_solver="full")
    points = np.zeros((len(cases), 2))
    points[:, :count] = analysis.fit_transform(values)
    explained = [*map(float, analysis.explained_variance_ratio_), 0.0][:2]
    asked = {case: one.number for one in campaign.rounds for case in one.requested}
    labelled = set(campaign.labelled())
    rounds = [asked.get(case, 0 if case in labelled else None) for case in cases]
    newest = sorted((i for i, one in enumerate(rounds) if one), key=lambda i: -rounds[i])[:MOST_NAMES]
    titles = [f"component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(explained)]
    return {
        "sentence": "",
        "svg": embedding_plot(points, rounds, {i: cases[i] for i in newest}, titles, "map"),
        "explained": explained,
        "network": network,
        "dimensions": int(values.shape[1]),
        "absent": sorted(set(asked) - set(cases)),
        "unnamed": sum(bool(one) for one in rounds) - len(newest),
        "rows": [(case, one, *map(float, point)) for case, one, point in zip(cases, rounds, points, strict=True)],
    }


def _embeddings(campaign: Campaign) -> tuple[str, dict[str, np.ndarray]]:
    """The network in words, and the embedding of each case; or a sentence that says why there are none, and an empty dict."""
    source: dict[str, np.ndarray] = {}
    first: dict[str, np.ndarray] = {}
    number = 0
    for one in campaign.rounds:
        arrays = _read(one.folder / "embeddings.npz")
        source.update(arrays.get("source_embedding", {}))
        if not first and (first := arrays.get("embedding", {})):
            number = one.number
    source, first = _alike(source), _alike(first)
    if source and len(source) >= len(first):
        return "the source network", source
    if first:
        return f"the network that made query {number}", first
    if not campaign.rounds:
        return "No query has been made yet, so there is no map.", {}
    return f"The strategy {campaign.settings.strategy} does without embeddings, so there is no map.", {}


def _alike(known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The finite embeddings that have the same length as the first, as float64."""
    finite = {case: np.asarray(v, dtype=np.float64) for case, v in known.items() if np.isfinite(v).all() and v.size}
    length = len(next(iter(finite.values()), ()))
    return {case: value for case, value in finite.items() if len(value) == length}


def _read(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Rows by array name and case; empty if the file is missing or damaged."""
    try:
        with np.load(file) as content:
            cases = content["cases"].tolist()
            wanted = [name for name in ("embedding", "source_embedding") if name in content]
            arrays = {name: np.asarray(content[name], dtype=np.float64) for name in wanted}
        return {name: dict(zip(cases, rows, strict=True)) for name, rows in arrays.items() if rows.ndim == 2}
    except Exception:  # zip, zlib and NumPy raise many kinds of errors for a damaged file
        return {}
