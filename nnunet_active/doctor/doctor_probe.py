"""What `doctor` tries in a process of its own: import torch, call torchvision, let nnU-Net look for our trainer.

Prints one JSON line per probe, so that the results before a crash are known.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pickle
import sys
from collections.abc import Callable

from nnunet_active.campaign.settings import Settings

TRAINER = Settings().trainer


def probe_device() -> dict:
    """Devices that torch can use, and the CUDA version that torch was built for."""
    import torch

    devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    built_for = (
        f"torch was built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch was built without CUDA"
    )
    return {"devices": devices, "built_for": built_for}


def probe_torchvision() -> dict:
    """Whether torchvision's compiled operators load with this torch."""
    import torch

    try:
        import torchvision
        import torchvision.ops
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        return {"found": f"torch {torch.__version__}, no torchvision"}
    try:
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:
        raise RuntimeError(f"torch {torch.__version__} and torchvision {torchvision.__version__}: {error}") from error
    return {"found": f"torch {torch.__version__} and torchvision {torchvision.__version__} match"}


def probe_trainer() -> dict:
    """Whether nnU-Net's own search finds the importable class, and whether it pickles."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    home = importlib.import_module(f"nnunet_active.trainers.{TRAINER}")
    with contextlib.redirect_stdout(io.StringIO()):
        found = recursive_find_trainer_class_by_name(TRAINER)
    own = getattr(home, TRAINER)
    if found is not own:
        raise RuntimeError(
            f"nnU-Net finds {TRAINER} in {found.__module__}, which is not the installed {own.__module__}; point "
            f"nnUNet_extTrainer at the folder that nnunet_active trainers prints, not at the trainers themselves"
        )
    if pickle.loads(pickle.dumps(found)) is not own:
        raise RuntimeError(f"{TRAINER} does not survive pickling")
    return {"found": f"nnU-Net finds {TRAINER} in {home.__file__}, and it pickles"}


PROBES: dict[str, Callable[[], dict]] = {
    "device": probe_device,
    "torchvision": probe_torchvision,
    "trainer": probe_trainer,
}


def main() -> None:
    """Run all probes; an error is an answer too."""
    for name, probe in PROBES.items():
        try:
            answer = probe()
        except BaseException as error:  # a broken installation may raise anything
            detail = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {detail}"}
        print(json.dumps({"probe": name, **answer}), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
