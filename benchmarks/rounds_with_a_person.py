"""Rounds with a person, on real scans through the commands alone; the annotator is played by labels in a drawer.

    python benchmarks/rounds_with_a_person.py glioma -c 2d --epochs 2 --stride 1 --iterations 10 [--rounds 3] [--held-out 6]

All labels but the held-out ones are moved away. Then the script does what a new user does: ``nnunet_active select`` with the source
model, and from there on whatever ``nnunet_active next`` prints. Where a person has to label, the true label is handed in the way
that a person would: edited in place in the hand-off folder, saved as a ``.seg.nrrd`` with segment names, or delivered in a folder of
the annotator's own as MHA (one way per round, in this order). After the rounds between trainings one more case is asked for by the
training itself (folder oracle), which stops with its request and is continued by the command that ``next`` prints. The stock
``nnUNetv2_train`` without any of our trainers is run on the final ``splits_final.json`` at the end.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import SimpleITK as sitk
from adaptation import DATA, arguments, prepare

ENDING = ".nii.gz"
PROGRAMS = Path(sys.executable).parent
MOST_STEPS = 60


def run(command: str, log: Path) -> str:
    """Run a command line as it was printed; what it says on stdout comes back."""
    print("$", command, flush=True)
    words = shlex.split(command)
    done = subprocess.run([str(PROGRAMS / words[0]), *words[1:]], text=True, capture_output=True)
    with log.open("a") as file:
        file.write(f"$ {command}\n{done.stdout}\n{done.stderr}\n")
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def hand_in(case: str, truth: Path, handoff: Path, way: str, own: Path, names: dict[int, str]) -> None:
    """The annotator's work on one case."""
    label = sitk.Cast(sitk.ReadImage(str(truth)), sitk.sitkUInt8)
    if way == "in place":
        sitk.WriteImage(label, str(handoff / case / f"{case}{ENDING}"))
    elif way == "seg.nrrd":
        for number, (value, name) in enumerate(names.items()):
            segment = {"ID": f"Segment_{number + 1}", "Name": name, "LabelValue": str(value), "Layer": "0"}
            for key, content in segment.items():
                label.SetMetaData(f"Segment{number}_{key}", content)
        sitk.WriteImage(label, str(handoff / case / f"{case}.seg.nrrd"), useCompression=True)
    else:
        own.mkdir(exist_ok=True)
        sitk.WriteImage(label, str(own / f"{case}.mha"), useCompression=True)


def stock_training(words: list[str], log: Path) -> str:
    """Start stock nnU-Net where our trainers cannot be found; it is stopped once its first epoch has begun."""
    environment = {key: value for key, value in os.environ.items() if key != "nnUNet_extTrainer"}
    process = subprocess.Popen(
        [str(PROGRAMS / "nnUNetv2_train"), *words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    split = ""
    with log.open("a") as file:
        for line in process.stdout:
            file.write(line)
            split = line.strip() if "This split has" in line else split
            if line.strip().endswith("Epoch 0"):
                break
    time.sleep(10)
    if process.poll() not in (None, 0) or not split:
        raise SystemExit(f"the stock training failed, see {log}")
    process.kill()
    process.wait()
    return split


def main() -> None:
    rounds, held_out, size = (
        int(sys.argv.pop(sys.argv.index(flag) + 1)) if flag in sys.argv else default
        for flag, default in (("--rounds", 3), ("--held-out", 6), ("-n", 1))
    )
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in ("--rounds", "--held-out", "-n")]
    args = arguments()
    work = args.work or Path(tempfile.mkdtemp(prefix="rounds_with_a_person_"))
    work.mkdir(parents=True, exist_ok=True)
    raw, model = prepare(args, work)
    log, drawer, own = work / "log.txt", work / "drawer", work / "from_the_annotator"
    drawer.mkdir()
    labels = sorted(file.name.removesuffix(ENDING) for file in (raw / "labelsTr").glob(f"*{ENDING}"))
    val = sorted(random.Random(args.seed).sample(labels, held_out))
    for case in set(labels) - set(val):
        shutil.move(raw / "labelsTr" / f"{case}{ENDING}", drawer)
    (raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": val}]))
    names = {v: n for n, v in json.loads((raw / "dataset.json").read_text())["labels"].items() if v != 0}
    os.environ["nnUNet_extTrainer"] = run("nnunet_active trainers", log).strip()
    number = str(int(raw.name[7:10]))
    schedule = f"--epochs {args.epochs} --stride {args.stride} --iterations {args.iterations} --val-iterations 2 --lr {args.lr}"
    device = f"-device {args.device}"
    first = f"nnunet_active select -d {number} -c {args.configuration} -m {shlex.quote(str(model))} -n {size}"
    print(run(f"{first} --strategy {args.strategy} {schedule} {device}", log))
    own_request, rows, campaign_file = False, [], None
    for _ in range(MOST_STEPS):
        step = json.loads(run(f"nnunet_active next -d {number} --json", log))
        print("  ", step["kind"], "|", " ".join(step["why"][:2]), flush=True)
        campaign_file = Path(os.environ["nnUNet_preprocessed"]) / raw.name / "active" / "fold_0" / "campaign.json"
        campaign = json.loads(campaign_file.read_text())
        made = len(campaign["rounds"])
        command, kind = step["command"], step["kind"]
        start = time.perf_counter()
        if kind == "label":
            way = ("in place", "seg.nrrd", "own folder")[(made - 1) % 3]
            handoff = Path(campaign["handoff"][str(made)])
            for case in step["state"]["waiting"]:
                hand_in(case, drawer / f"{case}{ENDING}", handoff, way, own, names)
                print(f"   {case} labelled ({way})", flush=True)
            text = run(command + (f" --from {own}" if way == "own folder" else ""), log)
        elif kind in ("select", "done"):
            if made < rounds:
                text = run(f"nnunet_active select -d {number} -n {size} {device}", log)
            elif not own_request:
                own_request = True
                text = run(f"nnunet_active select -d {number} -n 1 --in-training {device}", log)
                step = json.loads(run(f"nnunet_active next -d {number} --json", log))
                kind = step["kind"]
                text += run(step["command"] + ("" if "-device" in step["command"] else f" {device}"), log)
            else:
                break
        else:
            given = command if "-device" in command or kind == "ingest" else f"{command} {device}"
            text = run(given, log)
        rows.append({"step": len(rows), "kind": kind, "rounds": made, "seconds": time.perf_counter() - start})
        if kind == "label":
            print("\n".join(f"   {line}" for line in text.splitlines()[:8]), flush=True)
    campaign = json.loads(campaign_file.read_text())
    assert [one["made_by"] for one in campaign["rounds"]] == ["select"] * rounds + ["training"], campaign["rounds"]
    requested = [case for one in campaign["rounds"] for case in one["requested"]]
    assert len(set(requested)) == len(requested), "a case was asked for twice"
    splits = json.loads((campaign_file.parents[2] / "splits_final.json").read_text())
    assert splits[0] == {"train": sorted(requested), "val": val}, splits
    for case in requested:
        there, truth = (sitk.ReadImage(str(folder / f"{case}{ENDING}")) for folder in (raw / "labelsTr", drawer))
        assert (sitk.GetArrayFromImage(there) == sitk.GetArrayFromImage(truth)).all(), f"the label of {case} changed"
    print(run(f"nnunet_active report -d {number} -o {work / 'report.html'}", log).strip())
    print(run(f"nnunet_active status -d {number}", log))
    print("the stock trainer on the same splits_final.json (its first iterations; it is stopped then)", flush=True)
    print(stock_training([number, args.configuration, "0", "-p", "nnUNetActivePlans", "-device", args.device], log))
    table = pd.DataFrame(rows)
    print(table.groupby("kind")["seconds"].agg(["count", "median"]).round(1).to_string())
    if args.csv:
        table.assign(pair=args.pair, configuration=args.configuration).to_csv(args.csv, index=False)
    print(f"everything is in {work.name}; data: {DATA.name}")


if __name__ == "__main__":
    main()
