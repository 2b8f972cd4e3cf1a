from __future__ import annotations

import pytest

from nnunet_active.training.stopping import StoppingMixin
from nnunet_active.util.errors import CampaignError, EmptyPool


class Trainer(StoppingMixin):
    """As much of a trainer as it takes."""

    session = None

    def __init__(self) -> None:
        self.said: list[str] = []

    def print_to_log_file(self, text: str, add_timestamp: bool = True) -> None:
        self.said.append(text.strip())


@pytest.mark.parametrize(("error", "code"), [(CampaignError("In use."), 2), (EmptyPool("Nobody is left."), 0)])
def test_a_users_mistake_is_one_sentence_and_an_exit_code(error, code):
    trainer = Trainer()
    with pytest.raises(SystemExit) as stop, trainer.one_sentence():
        raise error
    assert stop.value.code == code
    assert trainer.said == [str(error)]


def test_a_mistake_of_ours_keeps_its_traceback():
    trainer = Trainer()
    with pytest.raises(ZeroDivisionError), trainer.one_sentence():
        raise ZeroDivisionError
    assert trainer.said == []
