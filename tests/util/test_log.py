from __future__ import annotations

from nnunet_active.util.log import silent


def test_a_silent_log_prints_nothing(capsys):
    silent("a sentence")
    assert capsys.readouterr() == ("", "")
