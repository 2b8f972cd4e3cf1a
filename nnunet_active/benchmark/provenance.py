"""Which versions and which state of the code produced a number."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nnunet_active
from nnunet_active import __version__

LIBRARIES = ("nnunetv2", "torch", "numpy", "scipy", "scikit-learn", "batchgeneratorsv2")


def versions() -> dict[str, str]:
    """Versions of everything that affects a number."""
    return {"nnunet_active": __version__, "python": platform.python_version(), **installed(*LIBRARIES, "monai")}


def installed(*names: str) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def code_digest() -> str:
    """Hex digest of this package's source files: which state of the code produced a number."""
    root = Path(nnunet_active.__file__).parent
    modules = [
        sys.modules[name] for name in ("nnunet_active.trainers", "nnunet_active.planners") if name in sys.modules
    ]
    files = [*root.rglob("*.py"), *(f for module in modules for f in Path(module.__file__).parent.glob("*.py"))]
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(set(files)):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
