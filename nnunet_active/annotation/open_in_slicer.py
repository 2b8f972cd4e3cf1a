"""Opens the cases of this folder in 3D Slicer, one after the other, with the names and colours of the labels.

    Slicer --python-script open_in_slicer.py [CASE]

or drag it into 3D Slicer's Python console: exec(open("open_in_slicer.py").read()), which asks for the folder. Then
Ctrl+Shift+N (or next_case()) saves and goes on, Ctrl+Shift+B (or previous_case()) saves and goes back, Ctrl+Shift+S (or save_case())
saves; open_case("CASE") opens a certain one. Your segmentation is saved as CASE/CASE.seg.nrrd.
"""

import json
import sys
from pathlib import Path

import qt
import slicer


def _folder():
    """Where handoff.json lies: beside this script, wherever that was run from."""
    for candidate in (Path(globals().get("__file__", "")).resolve().parent, Path.cwd()):
        if (candidate / "handoff.json").is_file():
            return candidate
    chosen = qt.QFileDialog.getExistingDirectory(None, "Where is the hand-off folder (with handoff.json)?")
    return Path(str(chosen))


FOLDER = _folder()
CASES = json.loads((FOLDER / "handoff.json").read_text(encoding="utf-8"))["cases"]
ORDER = sorted(CASES, key=lambda case: (CASES[case]["round"] or 0, CASES[case]["rank"]))
_open = {"case": None, "segmentation": None}


def open_case(case):
    """Close what is open and load a case: its channels, the uncertainty map as an overlay, and the segmentation to edit."""
    entry = CASES[case]
    slicer.mrmlScene.Clear(0)
    volumes = {
        image["channel"]: slicer.util.loadVolume(str(FOLDER / image["file"]), properties={"name": image["channel"]})
        for image in entry["images"]
    }
    first = volumes.get(entry["open_first"]) or next(iter(volumes.values()))
    uncertainty = slicer.util.loadVolume(str(FOLDER / entry["uncertainty_file"]), properties={"name": "uncertainty"})
    display = uncertainty.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeFileInferno.txt")
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 0.7)  # nats; ln 2 = 0.69 is a coin toss between two labels
    display.SetThreshold(0.1, 1000.0)  # the certain voxels stay clear
    display.ApplyThresholdOn()
    if (
        "prediction_file" in entry
    ):  # only some slices are to be labelled; what the network thinks of the others is to look at
        context = slicer.util.loadSegmentation(
            str(FOLDER / entry["prediction_file"]), properties={"name": "prediction in all slices"}
        )
        context.GetDisplayNode().SetOpacity2DFill(0.15)
    segmentation = slicer.util.loadSegmentation(str(FOLDER / entry["segmentation_file"]))
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(first)
    slicer.util.setSliceViewerLayers(background=first, foreground=uncertainty, foregroundOpacity=0.4, fit=True)
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(first)
    asked = entry.get("asked")
    place = asked or entry.get("most_uncertain")
    if place:
        left, posterior, superior = place["position_mm"]  # 3D Slicer counts to the right and to the front
        slicer.modules.markups.logic().JumpSlicesToLocation(-left, -posterior, superior, True)
    _open.update(case=case, segmentation=segmentation)
    text = f"{case} ({ORDER.index(case) + 1} of {len(ORDER)}): start with {entry['open_first']}."
    if asked:
        text += f" Label only the slices {', '.join(map(str, asked['slices']))} along {asked['axis']} (from 1)."
    else:
        look = "; ".join(f"{plane} {', '.join(map(str, where))}" for plane, where in entry["slices"].items())
        text += f" Slices (from 1): {look or 'all'}."
    slicer.util.showStatusMessage(text, 10000)
    print(text)


def save_case():
    """Save the segmentation that is open, under the name that it was loaded from."""
    if _open["case"] is not None:
        file = FOLDER / CASES[_open["case"]]["segmentation_file"]
        if not slicer.util.saveNode(_open["segmentation"], str(file)):
            raise RuntimeError(f"{file} could not be written; save the segmentation by hand.")
        print(f"Saved {file}")


def _go(step):
    save_case()
    place = (ORDER.index(_open["case"]) if _open["case"] in ORDER else -step) + step
    if 0 <= place < len(ORDER):
        open_case(ORDER[place])
    else:
        slicer.util.infoDisplay("That was the last case of this folder. Everything is saved.")


def next_case():
    """Save, then open the next case of the worklist."""
    _go(1)


def previous_case():
    """Save, then open the case before."""
    _go(-1)


def _start():
    for keys, action in (("Ctrl+Shift+N", next_case), ("Ctrl+Shift+B", previous_case), ("Ctrl+Shift+S", save_case)):
        shortcut = qt.QShortcut(qt.QKeySequence(keys), slicer.util.mainWindow())
        shortcut.connect("activated()", action)
    wanted = [argument for argument in sys.argv[1:] if argument in CASES]
    if ORDER:
        open_case(wanted[0] if wanted else ORDER[0])


_start()
