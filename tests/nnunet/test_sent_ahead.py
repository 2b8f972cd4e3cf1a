from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_active.nnunet.sent_ahead import arrived, send_ahead

IMAGE = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def test_without_a_gpu_an_image_stays_where_it_is_and_is_not_copied():
    sent = send_ahead(IMAGE, torch.device("cpu"))
    assert sent is IMAGE
    assert arrived(sent).data_ptr() == IMAGE.ctypes.data
    tensor = torch.from_numpy(IMAGE)
    assert arrived(tensor) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_an_image_on_a_gpu_is_whole_and_its_memory_waits_for_the_work_on_it():
    gpu = torch.device("cuda")
    ones, busy = np.ones((64, 256, 256), np.float32), torch.ones((8192, 8192), device=gpu)
    sums = []
    for turn in range(1, 9):
        for _ in range(20):  # work that is still queued when the next image is sent
            busy = busy @ busy
            busy /= busy.amax()
        image = arrived(send_ahead(turn * ones, gpu))
        assert image.device.type == "cuda"
        sums.append(image.mean())
        del image
    assert torch.stack(sums).tolist() == list(range(1, 9))
