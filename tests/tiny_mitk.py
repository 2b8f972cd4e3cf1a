"""Results as MITK saves them when a task is accepted: the lines of MITK 2026.06, which leaves those for 3D Slicer as they were."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_active.data.nrrd import read_nrrd_geometry

RECORDED = Path(__file__).parent / "data" / "mitk_2026_06.nrrd"  # two groups of labels, saved by MITK's own code


def accept(handoff: Path, case: str, label: np.ndarray | None = None, groups: list | None = None, name="") -> Path:
    """What Accept does with a task of a hand-off folder: its segmentation becomes its result, with other voxels where some are given.

    ``label`` is (Z, Y, X) or (groups, Z, Y, X); ``groups`` has a list of (value, name) for each group, as the handed-out ones are.
    """
    tasks = json.loads((handoff / "mitk_tasks.json").read_text())["Tasks"]
    (task,) = [one for one in tasks if one["Name"] == case]
    given = handoff / task["Segmentation"]
    head, _, _ = given.read_bytes().partition(b"\n\n")
    kept = [line for line in head.decode().splitlines() if ":=" in line]
    if label is None:
        import SimpleITK as sitk

        label = sitk.GetArrayFromImage(sitk.ReadImage(str(given)))
    if groups is not None:
        entries = [{"labels": [{"value": value, "name": name} for value, name in group]} for group in groups]
        kept = [line for line in kept if ".labelgroups:=" not in line]
        kept.append(f"org.mitk.multilabel.segmentation.labelgroups:={json.dumps(entries)}")
    kept = [line.replace("segmentation.version:=1", "segmentation.version:=4") for line in kept]
    geometry = read_nrrd_geometry(given)
    if label.ndim == 4:
        geometry |= {
            "dimension": "4",
            "sizes": f"{len(label)} {geometry['sizes']}",
            "space directions": f"none {geometry['space directions']}",
            "kinds": "vector domain domain domain",
        }
        label = np.moveaxis(label, 0, -1)
    lines = ["NRRD0004", "type: unsigned short", *(f"{key}: {value}" for key, value in geometry.items())]
    lines += ["endian: little", "encoding: raw", "MITK_IO_reader_version:=2026.06.00", *kept, "org_mitk_uid:=376d7d8c"]
    result = handoff / task["Result"]
    result = result.with_name(name or result.name)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_bytes(("\n".join(lines) + "\n\n").encode() + np.ascontiguousarray(label, "<u2").tobytes())
    return result


def run_in_mitk(script: str, *arguments: object) -> str:
    """What a script prints that runs where MITK's own package is: in this Python, or in the one that MITK_PYTHON names."""
    python = os.environ.get("MITK_PYTHON") or (sys.executable if importlib.util.find_spec("mitk") else "")
    if not python:
        pytest.skip("mitk-python is not here (it needs Python 3.12; MITK_PYTHON may name one that has it)")
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
