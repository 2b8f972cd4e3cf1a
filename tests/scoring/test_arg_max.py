from __future__ import annotations

import pytest
import torch

from nnunet_active.scoring.arg_max import highest_head


@pytest.mark.parametrize("piece", [7, 2**17])
@pytest.mark.parametrize("shape", [(1, 50), (2, 3, 4, 5), (30, 2, 40, 9)])
def test_the_highest_head_is_the_arg_max(shape, piece, monkeypatch):
    monkeypatch.setattr("nnunet_active.scoring.arg_max.PIECE", piece)
    logits = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for one in (logits, logits.half(), logits.round(), logits.movedim(1, -1), torch.zeros(shape)):
        assert torch.equal(highest_head(one), one.argmax(0))
