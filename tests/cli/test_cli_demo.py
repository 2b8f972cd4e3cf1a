from __future__ import annotations

import argparse
import tempfile

import pytest

from nnunet_active.cli import demo
from nnunet_active.cli.main import main


def test_the_demo_needs_no_flag_at_all():
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    args = parser.parse_args([])
    assert (args.raw, args.source, args.folder) == (None, None, None)
    assert args.budget == 3 and args.device is None and args.threads >= 1


@pytest.mark.parametrize("flag", ["--raw", "--source"])
def test_ones_own_data_and_its_model_belong_together(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["demo", flag, "somewhere"]) == 2
    err = capsys.readouterr().err
    assert "--raw and --source belong together" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
