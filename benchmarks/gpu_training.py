"""The checks of ``gpu_check.py`` that train with the stock command: cost of a query, a kill and ``--c``, DDP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_parts import CONFIGURATION, OURS, PLANS, TARGET, Check, call, stock

MMACTS, PLAIN = "nnUNetTrainerMmActS", "nnUNetTrainerActive"


def campaign(fold: str, epochs: int, iterations: int) -> Path:
    """A campaign with a query at each epoch; the folder that its training writes."""
    words = ["--strategy", "mmacts", "--budget", 2, "--query-size", 1, "--stride", 1, "--recipe", "plain"]
    begin(fold, *words, "--epochs", epochs, "--iterations", iterations)
    return results_of(MMACTS, fold)


def begin(fold: str, *words: str | int) -> None:
    fixed = ["-d", TARGET, "-c", CONFIGURATION, "-f", fold, "--val-iterations", 2, "--oracle", "retrospective"]
    call([*OURS, "init", *fixed, *words])


def results_of(trainer: str, fold: str) -> Path:
    results = Path(os.environ["nnUNet_results"]) / f"Dataset{TARGET}_PhantomTarget"
    return results / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"


def trained_by_stock(check: Check, fold: str, *flags: str, trainer: str = MMACTS) -> list[str]:
    return stock("train", TARGET, CONFIGURATION, fold, "-tr", trainer, "-p", PLANS, "-device", check.device, *flags)


def trainers_folder() -> str:
    from nnunet_active.nnunet_discovery import discovery_folder

    return str(discovery_folder())


def lines_of(folder: Path) -> str:
    return "\n".join(file.read_text() for file in sorted(folder.glob("training_log_*.txt")))


def training(check: Check) -> None:
    """``nnUNetv2_train`` with two queries, killed in its third epoch: what an epoch and a query cost."""
    iterations = 4 if check.tiny else 50
    folder = campaign("0", 3, iterations)
    process = subprocess.Popen(
        [str(word) for word in trained_by_stock(check, "0")],
        env={**os.environ, "nnUNet_extTrainer": trainers_folder()},
        start_new_session=True,
    )
    try:
        while process.poll() is None and not re.search(r"Epoch 2\b", lines_of(folder)):
            time.sleep(0.5)
        assert process.poll() is None, "it ended before its third epoch"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    log = lines_of(folder)
    epochs = [float(found) for found in re.findall(r"Epoch time: ([\d.]+) s", log)]
    check.row("first epoch (with torch.compile)", epochs[0], "s")
    step = epochs[1] / iterations
    check.row("later epoch, a step", step, "s")
    events = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    queries = [event["seconds"] for event in events if event.get("event") == "query"]
    for number, seconds in enumerate(queries, 1):
        check.row(f"query {number}, {9 - number} cases", seconds, "s")
    # the cost of one more case is that of scoring; what a small query takes beyond it does not grow with the pool
    scored = json.loads((check.work / "scoring.json").read_text())
    a_case = next(row["value"] for row in scored if row["what"].startswith("scoring,")) / 16
    in_all = queries[-1] + (80 - (9 - len(queries))) * a_case
    check.at_most("80 cases a query, stride 40 × 250 steps: its share", in_all / (40 * 250 * step), 0.02)


def resume(check: Check) -> None:
    """``--c`` goes on to the end, with the same two queries; uncompiled, as compiling takes longer than the epoch that is left."""
    folder = next(Path(os.environ["nnUNet_results"]).glob(f"Dataset{TARGET}_*/nnUNetTrainerMmActS__*/fold_0"))
    before = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    variables = {"nnUNet_extTrainer": trainers_folder(), "nnUNet_compile": "f"}
    seconds = call(trained_by_stock(check, "0", "--c"), **variables)
    events = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    asked = [[tuple(e["requested"]) for e in part if e.get("event") == "query"] for part in (before, events)]
    check.row("--c to the end, with validation", seconds, "s")
    check.row("checkpoint_final.pth", "there", "", "there", (folder / "checkpoint_final.pth").is_file())
    check.row("cases asked for", str(len(asked[1])), "", "2, the same", asked[0] == asked[1] and len(asked[1]) == 2)


def ddp(check: Check) -> None:
    """nnU-Net's own DDP training with one GPU."""
    if not check.cuda:
        check.row("DDP", "needs CUDA here; with gloo it is in the tests")
        return
    folder = campaign("1", 2, 20)
    code = (
        "import os, torch.multiprocessing as mp\n"
        "from nnunetv2.run.run_training import run_ddp\n"
        "if __name__ == '__main__':\n"
        "    os.environ.update(MASTER_ADDR='localhost', MASTER_PORT='29511')\n"
        f"    mp.spawn(run_ddp, ('{TARGET}', '{CONFIGURATION}', 1, 'nnUNetTrainerMmActS', '{PLANS}', False, False, False,"
        " None, False, False, 1), nprocs=1)\n"
    )
    script = check.work / "ddp.py"
    script.write_text(code)
    seconds = call([sys.executable, str(script)], nnUNet_extTrainer=trainers_folder(), nnUNet_compile="f")
    check.row("DDP, nccl, one rank, two epochs with a query each", seconds, "s")
    check.row("checkpoint_final.pth", "there", "", "there", (folder / "checkpoint_final.pth").is_file())


def guarded(check: Check) -> None:
    """The default recipe, with the unlabelled pool: cross-fitting, training, certificate, then ``nnunet_active predict``."""
    fold, iterations = "2", 4 if check.tiny else 10
    words = ["--strategy", "foreground_random", "--budget", 2, "--query-size", 2, "--epochs", 2]
    begin(fold, *words, "--iterations", iterations, "--recipe", "guarded:unlabelled=mix:cross_fit=true")
    # compiling would take longer than these steps, once for each of the three networks
    variables = {"nnUNet_extTrainer": trainers_folder(), "nnUNet_compile": "f"}
    check.row(
        "guarded with mix, two epochs, to its end", call(trained_by_stock(check, fold, trainer=PLAIN), **variables), "s"
    )
    folder = results_of(PLAIN, fold)
    events = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    cross_fit = next(event for event in events if event["event"] == "cross_fit")
    check.row("cross-fitting: extra trainings", cross_fit["trained"], "", "2", cross_fit["trained"] == 2)
    check.row("cross-fitting", cross_fit["seconds"], "s")
    judged = [event["cases"] for event in events if event["event"] == "interpolation"]
    check.row("cases that judge the gate", judged[-1], "", "≥ 2", judged[-1] >= 2)
    certified = [event["cases"] for event in events if event["event"] == "certificate"]
    check.row("unlabelled cases in the certificate", sum(certified), "", "≥ 1", sum(certified) >= 1)
    images, predicted = check.work / "two_scans", check.work / "guarded_predictions"
    images.mkdir()
    target = Path(os.environ["nnUNet_raw"]) / f"Dataset{TARGET}_PhantomTarget"
    for file in sorted((target / "imagesTr").iterdir())[:6]:  # three channels each
        (images / file.name).symlink_to(file)
    words = ["-i", images, "-o", predicted, "-d", TARGET, "-c", CONFIGURATION, "-f", fold, "-device", check.device]
    check.row("nnunet_active predict, 2 scans", call([*OURS, "predict", *words, "-tr", PLAIN, "-p", PLANS]), "s")
    found = len(list(predicted.glob("*.nii.gz")))
    check.row("label maps", found, "", "2", found == 2)
