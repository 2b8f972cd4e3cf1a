"""What the tests of trainings share."""

from __future__ import annotations

import pytest

from nnunet_active.nnunet_discovery import discovery_folder


@pytest.fixture(autouse=True)
def _trainers_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(discovery_folder()))
