"""3D Slicer itself is not at hand in a test: the script runs against a stand-in for its documented functions, which reads the files."""

from __future__ import annotations

import runpy
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK as sitk
from test_handoff import nifti_handoff

from nnunet_active.annotation.records import AskedSlices


class Anything:
    """Takes every call, and notes it."""

    def __init__(self, calls: list, name: str) -> None:
        self._calls, self._name = calls, name

    def __getattr__(self, name: str) -> Anything:
        return Anything(self._calls, f"{self._name}.{name}")

    def __call__(self, *args, **kwargs) -> Anything:
        self._calls.append((self._name, args, kwargs))
        return Anything(self._calls, f"{self._name}()")


@pytest.fixture
def slicer(monkeypatch) -> types.SimpleNamespace:
    calls: list = []
    module, qt = types.ModuleType("slicer"), types.ModuleType("qt")
    module.calls, module.loaded, module.saved = calls, [], []

    def load(file, properties=None):
        sitk.ReadImage(file)  # 3D Slicer reads with ITK, too
        module.loaded.append(Path(file).name)
        return Anything(calls, f"node {Path(file).name}")

    def save(node, file):
        module.saved.append((node._name, Path(file).name))
        return True

    module.util = types.SimpleNamespace(
        loadVolume=load,
        loadSegmentation=load,
        saveNode=save,
        setSliceViewerLayers=Anything(calls, "setSliceViewerLayers"),
        selectModule=Anything(calls, "selectModule"),
        showStatusMessage=Anything(calls, "showStatusMessage"),
        infoDisplay=Anything(calls, "infoDisplay"),
        mainWindow=Anything(calls, "mainWindow"),
    )
    module.mrmlScene, module.modules = Anything(calls, "scene"), Anything(calls, "modules")
    qt.QShortcut, qt.QKeySequence = Anything(calls, "QShortcut"), Anything(calls, "QKeySequence")
    monkeypatch.setitem(sys.modules, "slicer", module)
    monkeypatch.setitem(sys.modules, "qt", qt)
    monkeypatch.setattr(sys, "argv", ["open_in_slicer.py"])
    return module


def test_the_script_goes_through_the_cases_and_saves_each(tmp_path, slicer, capsys):
    handoff = nifti_handoff(tmp_path, "b", "a")
    handoff()
    names = runpy.run_path(str(handoff.folder / "open_in_slicer.py"))
    assert slicer.loaded == ["b_0000.nii.gz", "b_uncertainty.nii.gz", "b.seg.nrrd"]
    jump = next(args for name, args, _ in slicer.calls if name.endswith("JumpSlicesToLocation"))
    image = sitk.ReadImage(str(handoff.file("b_0000.nii.gz", "b")))
    x, y, z = image.TransformPhysicalPointToIndex((-jump[0], -jump[1], jump[2]))
    assert abs(x - 3) <= 3 and abs(y - 7) <= 3 and abs(z - 5) <= 3
    names["next_case"]()
    assert slicer.saved == [("node b.seg.nrrd", "b.seg.nrrd")]
    assert slicer.loaded[3:] == ["a_0000.nii.gz", "a_uncertainty.nii.gz", "a.seg.nrrd"]
    names["next_case"]()
    assert slicer.saved[1:] == [("node a.seg.nrrd", "a.seg.nrrd")] and len(slicer.loaded) == 6
    assert any(name == "infoDisplay" for name, _, _ in slicer.calls)
    names["previous_case"]()
    assert slicer.loaded[-1] == "b.seg.nrrd"
    assert "b (1 of 2): start with T1" in capsys.readouterr().out


def test_where_slices_are_asked_for_no_others_are_named(tmp_path, slicer, capsys):
    handoff = nifti_handoff(tmp_path, labels={"background": 0, "oedema": 1, "core": 2, "ignore": 3})
    handoff(cases=[replace(handoff.cases[0], asked=AskedSlices("z", (3, 7), 3))])
    runpy.run_path(str(handoff.folder / "open_in_slicer.py"))
    told = "c (1 of 1): start with T1. Label only the slices 4, 8 along z (from 1)."
    assert told in capsys.readouterr().out.splitlines()


def test_a_case_that_is_named_is_opened(tmp_path, slicer, monkeypatch):
    handoff = nifti_handoff(tmp_path, "b", "a")
    handoff()
    monkeypatch.setattr(sys, "argv", ["open_in_slicer.py", "a"])
    runpy.run_path(str(handoff.folder / "open_in_slicer.py"))
    assert slicer.loaded[-1] == "a.seg.nrrd"


def test_a_segmentation_that_cannot_be_saved_is_not_left(tmp_path, slicer):
    handoff = nifti_handoff(tmp_path, "b", "a")
    handoff()
    names = runpy.run_path(str(handoff.folder / "open_in_slicer.py"))
    slicer.util.saveNode = lambda node, file: False
    with pytest.raises(RuntimeError, match="by hand"):
        names["next_case"]()
    assert slicer.loaded[-1] == "b.seg.nrrd"
