"""The sequential trainer in two processes that are joined by gloo, as ``nnUNetv2_train -num_gpus 2`` joins GPUs by nccl."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import pickle
import time
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from ranks_of_a_test import on_ranks
from tiny_target import NAME, PLANS, make_target
from tiny_training import campaign_of, fresh_target, start
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.query.pool_scoring import ScoringWork
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS
from nnunet_active.training import saving
from nnunet_active.training.comparison_table import SOURCE, read_comparison
from nnunet_active.training.mixed_training import STATE
from nnunet_active.training.source_comparison import Measured
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import silent
from nnunet_active.util.ranks import Ranks

CPU = torch.device("cpu")


class OnCpus(nnUNetTrainerMmActS):
    """Stock nnU-Net is certain that several processes mean GPUs, and overwrites the device that it is given."""

    def __init__(
        self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device = CPU
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.device = device


def train(rank: int, folder: Path) -> None:
    stock.DDP = lambda network, device_ids: DistributedDataParallel(
        network
    )  # torch's own; the numbers are those of GPUs
    scored, score = [], ScoringWork.begin

    def begin(self, case, loaded):
        scored.append(case)
        return score(self, case, loaded)

    ScoringWork.begin = begin
    target = preprocessed_folder(NAME)
    plans = {**json.loads((target / f"{PLANS}.json").read_text()), "continue_training": False}
    trainer = OnCpus(plans, "3d_fullres", 0, json.loads((target / "dataset.json").read_text()), CPU)
    if rank == 0:
        trainer.logger.plot_progress_png = lambda folder: None
    trainer.run_training()
    assert isinstance(trainer.network, DistributedDataParallel)
    result = {
        "weights": weights_digest(unwrap(trainer.network).state_dict()),
        "rounds": [one.requested for one in trainer.session.campaign.rounds],
        "split": trainer.do_split(),
        "scored": scored,
        "epoch": trainer.current_epoch,
    }
    (folder / f"rank_{rank}").write_bytes(pickle.dumps(result))


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders, labelled=5, unlabelled=0)


def test_two_processes_train_one_network_ask_once_and_share_the_scoring(target, tmp_path):
    start(target, oracle="retrospective", budget=2, stride=1, epochs=2)
    work = tmp_path / "work"
    work.mkdir()
    options = SelectOptions(NAME, configuration="3d_fullres", n=1, processes=1)
    alone = select(options, dry_run=True, log=silent).query.requested
    for file in (target.preprocessed / "active" / "scores").rglob("*.npz"):
        file.unlink()
    on_ranks(train, work)
    first, second = (pickle.loads((work / f"rank_{rank}").read_bytes()) for rank in range(2))
    assert first["weights"] == second["weights"]
    assert first["rounds"] == second["rounds"] and first["rounds"][0] == alone and len(first["rounds"]) == 2
    assert first["split"] == second["split"] and first["epoch"] == second["epoch"] == 2
    asked = [case for one in first["rounds"] for case in one]
    assert first["split"][0] == sorted(asked)
    # one case is held out; four candidates by the source network, three by the one that was trained on the first
    assert len(first["scored"] + second["scored"]) == 7 and first["scored"] and second["scored"]
    campaign = campaign_of(target)
    assert campaign.labelled() == sorted(asked) and not campaign.waiting()
    checkpoint = target.results / NAME / f"OnCpus__{PLANS}__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    saved = torch.load(checkpoint, weights_only=False)
    assert saved["nnunet_active"]["labelled"] == sorted(asked)
    assert weights_digest(saved["network_weights"]) == first["weights"]


def test_two_processes_share_the_judging_of_cross_fit_networks_and_train_on_as_without(tmp_path, monkeypatch):
    results = {}
    for name in ("on", "off"):
        target = fresh_target(tmp_path / name, monkeypatch, labelled=5, unlabelled=0)
        fine_tuning = {**recipe("guarded"), "cross_fit": name == "on"}
        budget = {"budget": 2, "query_size": 2, "one_off": True}
        start(target, "0", "retrospective", **budget, epochs=2, strategy="random", fine_tuning=fine_tuning)
        work = tmp_path / name / "work"
        work.mkdir()
        on_ranks(train, work)
        results[name] = [pickle.loads((work / f"rank_{rank}").read_bytes()) for rank in range(2)]
        folder = target.results / NAME / f"OnCpus__{PLANS}__3d_fullres" / "fold_0"
        rows = read_comparison(folder / "comparison.csv")
        rows = rows[rows["kind"] == "cross_fit"]
        assert sorted(set(rows["case"])) == (results[name][0]["split"][0] if name == "on" else [])
    assert len({one["weights"] for pair in results.values() for one in pair}) == 1


def test_two_processes_learn_from_the_pool_and_stay_one_network(target, tmp_path):
    fine_tuning = {"unlabelled": "mix"}
    start(target, "0", "retrospective", budget=1, stride=1, epochs=1, strategy="random", fine_tuning=fine_tuning)
    work = tmp_path / "work"
    work.mkdir()
    on_ranks(train, work)
    first, second = (pickle.loads((work / f"rank_{rank}").read_bytes()) for rank in range(2))
    assert first["weights"] == second["weights"]
    checkpoint = target.results / NAME / f"OnCpus__{PLANS}__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    own = torch.load(checkpoint, weights_only=False)["nnunet_active"][STATE]
    assert all(bool(tensor.isfinite().all()) for tensor in own["mean"].values()) and len(own["thresholds"]) == 3


def full_disk(temporary: Path, final: Path, *more) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(final))


def fail_with_a_case(rank: int, folder: Path) -> None:
    """Rank 1's share holds a damaged label, or rank 0 cannot write; both have to end, and say what is wrong."""
    case = (folder / "case").read_text()
    target = preprocessed_folder(NAME)
    plans = {**json.loads((target / f"{PLANS}.json").read_text()), "continue_training": False}
    trainer = OnCpus(plans, "3d_fullres", 0, json.loads((target / "dataset.json").read_text()), CPU)
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    trainer.initialize()
    shown, began = io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as end, trainer.one_sentence():
        if case == "checkpoint_latest.pth":
            saving.restamp = full_disk
            trainer.save_here()
        trainer.watch.comparison.measure(trainer._window(), Measured(SOURCE, "s"), ["case_0", case], "held_out")
    result = (end.value.code, shown.getvalue(), time.monotonic() - began < 30)
    (folder / f"rank_{rank}").write_bytes(pickle.dumps(result))


@pytest.mark.parametrize("what", ["a damaged label", "a full disk"])
def test_what_one_process_meets_ends_both_at_once_with_the_sentence_that_names_it(target, tmp_path, what):
    start(target, oracle="retrospective", budget=2, stride=1, epochs=2)
    case = "case_1" if what == "a damaged label" else "checkpoint_latest.pth"
    (tmp_path / "case").write_text(case)
    for file in target.store.folder.glob("case_1_seg.b2nd"):
        file.write_bytes(file.read_bytes()[:-40])
    on_ranks(fail_with_a_case, tmp_path)
    for rank in range(2):
        code, said, soon = pickle.loads((tmp_path / f"rank_{rank}").read_bytes())
        assert code == (2 if case == "case_1" else 1) and soon
        assert case in said and "did not foresee" not in said


def fail_alone(rank: int, folder: Path) -> None:
    """What nobody gathers: rank 1 fails while rank 0 waits for it."""
    target = preprocessed_folder(NAME)
    plans = {**json.loads((target / f"{PLANS}.json").read_text()), "continue_training": False}
    trainer = OnCpus(plans, "3d_fullres", 0, json.loads((target / "dataset.json").read_text()), CPU)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), trainer.one_sentence():
            if rank == 1:
                raise CampaignError("case_1 cannot be read.")
            Ranks().gather(None)
    finally:
        (folder / f"said_{rank}").write_text(shown.getvalue())


def test_a_process_that_fails_alone_says_so_and_ends_and_so_do_the_others(target, tmp_path):
    start(target, oracle="retrospective", budget=2, stride=1, epochs=2)
    began = time.monotonic()
    with pytest.raises(multiprocessing.ProcessExitedException) as ended:
        on_ranks(fail_alone, tmp_path)
    assert time.monotonic() - began < 120 and ended.value.exit_code == 2
    assert (tmp_path / "said_1").read_text().strip() == "case_1 cannot be read."
