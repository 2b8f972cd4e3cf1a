"""A campaign with the folder oracle on real scans, the annotator played by labels in a drawer.

    python benchmarks/folder_oracle.py cardiac -c 2d --raw RAW --held-out 8 --epochs 6 --stride 2 --iterations 20

All labels but the held-out ones are moved out of ``labelsTr``; cases that never had one stay in the pool. The stock ``nnUNetv2_train``
is started; whenever it stops with a request, the requested label is handed back from the drawer and the very command that the
training printed is run. A request for a case whose truth nobody has ends the run there, and is reported as such.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adaptation import PAIRS, arguments, prepare, run


def main() -> None:
    held_out = 8
    if "--held-out" in sys.argv:
        index = sys.argv.index("--held-out")
        held_out = int(sys.argv.pop(index + 1))
        sys.argv.pop(index)
    args = arguments()
    work = args.work or Path(tempfile.mkdtemp(prefix="folder_oracle_"))
    work.mkdir(parents=True, exist_ok=True)
    raw, model = prepare(args, work)
    drawer = work / "drawer"
    drawer.mkdir()
    labels = sorted(file.name.removesuffix(".nii.gz") for file in (raw / "labelsTr").glob("*.nii.gz"))
    val = sorted(random.Random(args.seed).sample(labels, held_out))
    for case in set(labels) - set(val):
        shutil.move(raw / "labelsTr" / f"{case}.nii.gz", drawer)
    (raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": val}]))
    programs, name, c = Path(sys.executable).parent, raw.name, args.configuration
    ours, log = str(programs / "nnunet_active"), work / "log.txt"
    os.environ["nnUNet_extTrainer"] = subprocess.run(
        [ours, "trainers"], capture_output=True, text=True, check=True
    ).stdout.strip()
    run(ours, "plan", "-d", name, "-m", str(model), "-c", c, log=log)
    run(ours, "preprocess", "-d", name, "-c", c, "-np", "2", log=log)
    flags = f"--stride {args.stride} --epochs {args.epochs} --iterations {args.iterations} --val-iterations 2 --lr {args.lr}"
    flags += f" --budget {args.budget} --oracle folder --seed {args.seed} --strategy {args.strategy}"
    run(ours, "init", "-d", name, "-c", c, "-f", "0", *flags.split(), log=log)
    trainer = "nnUNetTrainerMmActS" if args.strategy == "mmacts" else "nnUNetTrainerActive"
    command = f"nnUNetv2_train {name} {c} 0 -tr {trainer} -p nnUNetActivePlans -device {args.device}"
    while True:
        before = log.read_text()
        words = shlex.split(command)
        run(str(programs / words[0]), *words[1:], log=log)
        printed = log.read_text()[len(before) :]
        request = re.search(r"Please label: (.*)", printed)
        if request is None:
            break
        command = re.search(r"^ +(nnUNetv2_train .*--c)$", printed, re.M)[1]
        for case in request[1].split(", "):
            truth = drawer / f"{case}.nii.gz"
            if not truth.is_file():
                print(f"asked for {case}, for which nobody has a truth; the run ends here with its request kept")
                run(ours, "status", "-d", name, log=log)
                return
            print(f"asked for {case}; its label is handed in", flush=True)
            shutil.copy(truth, raw / "labelsTr")
    print(subprocess.run([ours, "status", "-d", name], capture_output=True, text=True, check=True).stdout)
    splits = json.loads((Path(os.environ["nnUNet_preprocessed"]) / name / "splits_final.json").read_text())
    print(f"splits_final.json: {splits}")
    dice = re.findall(r"Mean Validation Dice: +([\d.]+)", log.read_text())
    print(f"{args.pair} ({PAIRS[args.pair][2]}), {c}: mean validation Dice on {len(val)} held-out cases {dice[-1]}")


if __name__ == "__main__":
    main()
