from __future__ import annotations

import pandas as pd
import pytest

from nnunet_active.training.certificate_table import (
    CERTIFICATE_COLUMNS,
    certificate_of,
    read_certificate,
)
from nnunet_active.util.tables import write_csv


def rows(distances: dict[tuple[str, str], float], pool: int) -> pd.DataFrame:
    about = ("a", "s", 9, 3, pool)
    return pd.DataFrame([(*about, *key, value) for key, value in distances.items()], columns=CERTIFICATE_COLUMNS)


FOUR = {("x", "core"): 0.2, ("x", "oedema"): 0.4, ("y", "core"): 0.0, ("y", "oedema"): 0.1}


def test_the_bound_is_the_mean_over_cases_of_the_mean_over_labels():
    found = certificate_of(rows(FOUR, 7))
    assert (found.cases, found.pool, found.furthest) == (2, 7, "x")
    assert found.bound == pytest.approx((0.3 + 0.05) / 2) and found.distance == pytest.approx(0.3)
    assert found.sentence == (
        "On 2 of 7 unlabelled cases, the adapted model's mean IoU can differ from the source model's by at most 0.175, whatever the "
        "true labels are."
    )


def test_where_all_unlabelled_cases_were_looked_at_there_is_one_number():
    assert certificate_of(rows(FOUR, 2)).sentence.startswith("On 2 unlabelled cases, the")
    assert certificate_of(rows({("x", "core"): 0.5}, 1)).sentence.startswith("On 1 unlabelled case, the")


def test_a_table_comes_back_as_it_was_written_and_a_damaged_one_is_as_good_as_none(tmp_path):
    file = tmp_path / "certificate.csv"
    assert certificate_of(read_certificate(file)) is None
    table = rows({("001", "=core"): 1 / 3, ("NA", "core"): 0.0}, 2)
    write_csv(file, table)
    pd.testing.assert_frame_equal(read_certificate(file), table)
    file.write_text("nonsense,\n\x00")
    assert read_certificate(file).empty
