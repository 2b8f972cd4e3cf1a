from __future__ import annotations

import json

from nnunet_active.returned.ingest_report import IngestReport


def test_a_sentence_about_a_case_is_said_once_and_all_is_json():
    report = IngestReport()
    report.warn("a", "one", "two", "one")
    report.warn("a", "two")
    report.warn("b")
    assert report.warnings == {"a": ["one", "two"]}
    assert json.loads(json.dumps(report.to_json()))["warnings"] == report.warnings
