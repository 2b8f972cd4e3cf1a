from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_active.nnunet.checkpoint_record import checkpoint_record, latest_is_newer
from nnunet_active.util.errors import ActiveError, UnsafeCheckpoint

LOG = {"epoch_start_timestamps": [12.5], "mean_fg_dice": [np.float32(0.5)], "losses": np.arange(3.0)}
OURS = {"trainer_name": "nnUNetTrainerActive", "labelled": ["a", "b"]}


def write(file: Path, **more) -> Path:
    network = torch.nn.Conv3d(1, 2, 3)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, 1, 3, 3, 3)).sum().backward()
    optimiser.step()
    content = {
        "network_weights": network.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "grad_scaler_state": None,
        "logging": LOG,
        "init_args": {"device": torch.device("cpu"), "fold": 0, "size": torch.Size([3]), "type": torch.float32},
        "nnunet_active": OURS,
    }
    torch.save({**content, **more}, file)
    return file


def test_everything_but_the_tensors_is_what_pytorch_reads(tmp_path):
    file = write(tmp_path / "checkpoint_final.pth")
    found, whole = checkpoint_record(file), torch.load(file, weights_only=False)
    assert found.keys() == whole.keys() and found["nnunet_active"] == OURS
    assert found["logging"]["epoch_start_timestamps"] == [12.5] and found["logging"]["mean_fg_dice"] == [0.5]
    assert np.array_equal(found["logging"]["losses"], LOG["losses"])
    assert set(found["network_weights"]) == set(whole["network_weights"])


def test_pytorch_is_not_imported_for_it(tmp_path):
    file = write(tmp_path / "checkpoint_final.pth")
    code = "import sys; from nnunet_active.nnunet.checkpoint_record import checkpoint_record as read; "
    code += "print(read(sys.argv[1])['nnunet_active']['labelled'], 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True).stdout
    assert said == "['a', 'b'] False\n"


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off", b"\0" * 5000])
def test_pytorch_is_not_imported_for_a_damaged_one_either(tmp_path, content):
    file = tmp_path / "checkpoint_latest.pth"
    file.write_bytes(content)
    code = "import sys; from pathlib import Path; from nnunet_active.nnunet.checkpoint_record import checkpoint_record as read\n"
    code += "try: read(Path(sys.argv[1]))\nexcept Exception as error: print(error, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True).stdout
    assert (
        said
        == f"{file} cannot be read, it is truncated or is not a checkpoint; copy it again from the trained model. False\n"
    )


def test_a_file_of_pytorch_before_1_6_is_read_whole_where_that_can_be(tmp_path):
    file = tmp_path / "old.pth"
    torch.save({"network_weights": {"w": torch.zeros(2)}, "logging": {}}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(ActiveError, match=r"old\.pth cannot be read"):  # as ever: its weights cannot stay in the file
        checkpoint_record(file)


class Touches:
    """Runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_code_in_a_checkpoint_is_not_run_but_named(tmp_path):
    file = write(tmp_path / "checkpoint_final.pth", extra=Touches(tmp_path / "ran"))
    with pytest.raises(UnsafeCheckpoint):
        checkpoint_record(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 10, 2000])
def test_a_truncated_file_is_named(tmp_path, kept):
    file = write(tmp_path / "checkpoint_final.pth")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ActiveError, match=r"checkpoint_final\.pth cannot be read"):
        checkpoint_record(file)


def test_what_holds_no_weights_is_no_checkpoint(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(ActiveError, match='no "network_weights"'):
        checkpoint_record(tmp_path / "other.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/b.txt", "text")
    with pytest.raises(ActiveError, match=r"a\.zip cannot be read"):
        checkpoint_record(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("begun", "later", "newer"),
    [
        ([99.0], True, True),
        ([], True, True),  # saved before its first epoch
        ([12.5], True, False),  # of the training that has ended: the kill came before it was removed
        ([99.0], False, False),
    ],
)
def test_the_latest_checkpoint_of_a_newer_training_is_told_from_what_one_that_ended_left_behind(
    tmp_path, begun, later, newer
):
    final = write(tmp_path / "checkpoint_final.pth")
    latest = write(tmp_path / "checkpoint_latest.pth", logging={"epoch_start_timestamps": begun})
    os.utime(latest, (time := final.stat().st_mtime + (9 if later else -9), time))
    assert latest_is_newer(tmp_path) == newer
    final.unlink()
    assert not latest_is_newer(tmp_path)


def test_a_damaged_latest_checkpoint_is_not_newer(tmp_path):
    final = write(tmp_path / "checkpoint_final.pth")
    latest = tmp_path / "checkpoint_latest.pth"
    latest.write_bytes(b"nothing")
    os.utime(latest, (time := final.stat().st_mtime + 9, time))
    assert not latest_is_newer(tmp_path)
