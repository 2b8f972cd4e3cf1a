from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_source
import torch
from killed_process import killed_after, killed_before_rename, needs_fork
from tiny_rounds import CONFIGURATION, copy_of, make_once, request, start, trained
from tiny_target import NAME, PLANS

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds import handoff_place
from nnunet_active.rounds.between_rounds import HandOff, annotate, select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.rounds.time_budget import AnnotationTime
from nnunet_active.strategies.registry import available_strategies
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput
from nnunet_active.util.log import silent

QUIET = {"log": silent}


@pytest.fixture(scope="module")
def all_labelled(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("labelled"), 6, 0)


def options(**more) -> SelectOptions:
    content = {"strategy": "entropy", "configuration": CONFIGURATION, "n": 2, "processes": 1}
    return SelectOptions(NAME, **{**content, **more})


def campaign_of(target, fold="0") -> Campaign:
    return Campaign.open(target.preprocessed, fold)


def state(target) -> dict:
    """All that a round leaves, without times."""
    campaign = campaign_of(target)
    selection = [one.selection() for one in campaign.rounds]
    for one in selection:
        one.pop("seconds")
    handoff = {
        number: json.loads((campaign.handoff_folder(int(number)) / "handoff.json").read_text())
        for number in campaign.to_json().get("handoff", {})
    }
    files = sorted(
        str(file.relative_to(target.root))
        for file in target.raw.rglob("*")
        if "annotate" in file.parts and file.suffix != ".tmp"
    )
    settled = {name: value for name, value in campaign.to_json().items() if name != "begun"}
    return {"state": settled, "selection": selection, "handoff": handoff, "files": files}


# --- every strategy by its name ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(available_strategies()))
def test_every_registered_strategy_selects_by_its_name(target, name):
    result = select(options(strategy=name), dry_run=True, **QUIET)
    assert result.outcome == "proposed" and len(set(result.query.requested)) == 2
    assert result.query.selection["strategy"] == name


# --- one round -----------------------------------------------------------------------------------------------------------------------


def test_from_scans_and_a_model_alone_to_a_round_and_its_hand_off_folder(target):
    shutil.rmtree(target.preprocessed)
    result = select(options(model=target.model), **QUIET)
    campaign = campaign_of(target)
    assert (
        result.outcome == "asked"
        and list(result.query.requested) == campaign.waiting()
        and len(campaign.waiting()) == 2
    )
    assert campaign.settings.oracle == "folder" and campaign.settings.strategy == "entropy" and campaign.exhausted
    assert [one.made_by for one in campaign.rounds] == ["select"]
    (handed,) = result.handed_over
    assert handed.folder == target.raw / "annotate" / "fold_0_round_001" == campaign.handoff_folder(1)
    for case in campaign.waiting():
        image = sitk.ReadImage(str(target.raw / "imagesTr" / f"{case}_0000.nii.gz"))
        label = sitk.ReadImage(str(handed.folder / case / f"{case}.nii.gz"))
        assert label.GetSize() == image.GetSize() and label.GetOrigin() == image.GetOrigin()
        assert (campaign.predictions_folder(1) / f"{case}.nii.gz").is_file()
    assert campaign.rounds[0].selection()["model"]["kind"] == "named"


def test_a_second_call_while_cases_wait_asks_nothing_twice_and_mends_the_folder(target):
    first = select(options(), **QUIET)
    before = state(target)
    (first.handed_over[0].folder / "README.txt").unlink()
    again = select(options(), **QUIET)
    assert again.outcome == "waiting" and again.query.requested == first.query.requested
    assert state(target) == before


def test_more_asks_for_further_cases_although_some_wait(target):
    first = select(options(), **QUIET)
    second = select(options(n=1), more=True, **QUIET)
    assert second.outcome == "asked" and not set(first.query.requested) & set(second.query.requested)
    campaign = campaign_of(target)
    assert len(campaign.waiting()) == 3 and campaign.budget == 3 and len(campaign.to_json()["handoff"]) == 2


def test_a_dry_run_chooses_the_same_cases_and_leaves_no_campaign(target):
    proposed = select(options(), dry_run=True, **QUIET)
    assert proposed.outcome == "proposed" and not (target.preprocessed / "active" / "fold_0").exists()
    assert not (target.raw / "annotate").exists()
    assert select(options(), **QUIET).query.requested == proposed.query.requested


def test_a_second_call_with_the_same_model_makes_no_forward_pass(target, monkeypatch):
    select(options(strategy="assft"), dry_run=True, **QUIET)

    def never(self, image):
        raise AssertionError("a forward pass")

    monkeypatch.setattr(SlidingWindow, "logits", never)
    assert select(options(strategy="assft"), dry_run=True, **QUIET).query is not None


def test_three_rounds_with_labels_in_between_and_the_campaigns_own_model_asking(target):
    asked = []
    for number in (1, 2, 3):
        result = select(options(n=1), **QUIET)
        (case,) = result.query.requested
        asked.append(case)
        target.label(case, number)
        report = ingest(NAME, log=silent)
        assert list(report.taken) == [case]
        trained(target, labelled=campaign_of(target).labelled(), seed=number)
        kind = result.query.selection["model"]["kind"]
        assert kind == ("source" if number == 1 else "own")
    assert len(set(asked)) == 3 and campaign_of(target).budget == 3
    splits = json.loads((target.preprocessed / "splits_final.json").read_text())
    assert splits[0]["train"] == sorted(["case_0", *asked])


def test_several_folds_of_a_named_model_are_averaged(target):
    tiny_source.write_trained(tiny_source.source_model(seed=7), target.model, fold="1")
    result = select(options(model=target.model, model_folds=("0", "1")), dry_run=True, **QUIET)
    one = select(options(model=target.model, model_folds=("1",)), dry_run=True, **QUIET)
    other = select(options(model=target.model), dry_run=True, **QUIET)
    assert result.query.selection["model"]["folds"] == ["0", "1"] and other.query.selection["model"]["folds"] == ["0"]
    entropies = [q.query.scores["mean_entropy"].sort_index() for q in (result, one, other)]
    assert not entropies[0].equals(entropies[1]) and not entropies[0].equals(entropies[2])


def test_a_named_model_is_kept_as_the_source_where_plans_were_there_before_it(target):
    kept = target.preprocessed / "active" / "source"
    shutil.rmtree(kept)
    with pytest.raises(MissingInput, match="No source network"):
        select(options(), **QUIET)
    shutil.rmtree(target.preprocessed / "active" / "fold_0", ignore_errors=True)
    assert select(options(model=target.model), **QUIET).outcome == "asked"
    assert (kept / f"{PLANS}__{CONFIGURATION}" / "plans.json").is_file()


def test_further_pool_folders_are_chosen_from_and_remembered(target, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    for channel in range(3):
        shutil.copy(target.raw / "imagesTr" / f"case_1_{channel:04d}.nii.gz", pool / f"late_{channel:04d}.nii.gz")
    result = select(options(pool_folders=(pool,), must_include=("late",)), **QUIET)
    assert "late" in result.query.requested and (result.handed_over[0].folder / "late" / "late.nii.gz").is_file()
    assert str(pool) in (target.preprocessed / "active" / "pool_folders.json").read_text()


# --- what is asked for ----------------------------------------------------------------------------------------------------------------


def test_excluded_cases_are_never_asked_for_and_included_ones_are(target):
    free = select(options(n=5), dry_run=True, **QUIET).query.requested
    result = select(options(exclude=(free[0],), must_include=(free[-1],)), **QUIET)
    assert free[-1] in result.query.requested and free[0] not in result.query.scores.index
    assert free[0] in campaign_of(target).excluded


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"exclude": ("case_9",)}, "has no case case_9; did you mean"),
        ({"must_include": ("case_0",)}, "it has a label already"),
        ({"must_include": ("case_1", "case_2", "case_3")}, "-n 2 is less than"),
        ({"strategy": "magic"}, "magic"),
        ({"configuration": "3d_lowres"}, "3d_lowres"),
        ({"settings": {"per_case": 2}}, "--per-case says something of slices; leave it out, or add --unit slice"),
        ({"time": AnnotationTime(1, 1, 1)}, "--minutes goes with --time-budget"),
        ({"fold": "7"}, "Nothing defines fold 7"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_round(target, more, said):
    with pytest.raises(ActiveError, match=said):
        select(options(**more), **QUIET)
    assert not list((target.preprocessed / "active").glob("fold_*/round_*"))


def test_a_place_that_cannot_be_written_is_told_before_anything_is_scored(target, monkeypatch, tmp_path):
    def never(self, image, wanted):
        raise AssertionError("a forward pass")

    # whoever runs as root may write anywhere
    monkeypatch.setattr(handoff_place.os, "access", lambda place, mode: target.raw not in (place, *place.parents))
    with monkeypatch.context() as patched:
        patched.setattr(SlidingWindow, "begin_score", never)
        with pytest.raises(MissingInput, match=f"{target.raw} is read-only; name another folder with -o"):
            select(options(), **QUIET)
    assert not (target.preprocessed / "active" / "fold_0").exists()
    assert select(options(), dry_run=True, **QUIET).outcome == "proposed"
    assert select(options(), place=HandOff(tmp_path / "elsewhere" / "deep"), **QUIET).outcome == "asked"


def test_more_cases_than_there_are_is_a_note_and_an_empty_pool_a_friendly_end(target):
    notes = []
    result = select(options(n=50), log=notes.append)
    assert len(result.query.requested) == 5 and any("Only 5 of the " in note for note in notes)
    assert campaign_of(target).budget == 50  # what the campaign was started with
    for case in result.query.requested:
        target.label(case, 1)
    ingest(NAME, log=silent)
    end = select(options(n=1), **QUIET)
    assert end.outcome == "empty" and "No unlabelled case" in end.message


def test_a_spent_budget_is_a_friendly_end_unless_a_number_is_named(target):
    campaign = start(budget=1, query_size=1)
    request(campaign, "case_1")
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    end = select(options(n=None), **QUIET)
    assert end.outcome == "empty" and "budget of 1 case is spent" in end.message
    assert select(options(n=2), **QUIET).outcome == "asked" and campaign_of(target).budget == 3


def test_the_time_of_the_expert_is_filled(target):
    time = AnnotationTime(base=10, per_object=0, per_cm3=0)
    result = select(options(n=None, minutes=35.0, time=time), **QUIET)
    assert len(result.query.requested) == 3 and campaign_of(target).budget == 3
    assert list(result.query.scores["minutes"].dropna()) == [10.0] * 3
    assert "3 cases fill 30 of 35 minutes" in result.query.selection["notes"][0]
    free = select(options(n=3), dry_run=True, more=True, **QUIET)
    assert set(result.query.requested).isdisjoint(free.query.requested)


def test_an_hour_that_is_too_short_for_any_case_asks_for_nothing(target):
    end = select(options(n=None, minutes=1.0), **QUIET)
    assert end.outcome == "empty" and "No case fits into 1 minutes" in end.message
    assert not campaign_of(target).rounds


def test_another_configuration_or_other_settings_than_the_campaigns_are_refused(target):
    select(options(settings={"epochs": 50}), **QUIET)
    with pytest.raises(CampaignError, match="is for -c 3d_fullres, not 2d"):
        select(options(configuration="2d"), **QUIET)
    with pytest.raises(CampaignError, match="--epochs 50, not 60"):
        select(options(settings={"epochs": 60}), **QUIET)
    with pytest.raises(CampaignError, match=r"--recipe interpolation=guarded:unlabelled=mix, not plain"):
        select(options(settings={"fine_tuning": {}}), **QUIET)
    with pytest.raises(CampaignError, match=r"--lr \(the trainer's own\), not 0.1"):
        select(options(settings={"initial_lr": 0.1}), **QUIET)
    assert select(options(configuration=None, settings={"epochs": 50}), **QUIET).outcome == "waiting"


def test_in_training_asks_nothing_now_and_a_repetition_adds_nothing(target):
    campaign = start(budget=1, query_size=1)
    request(campaign, "case_1")
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    for _ in range(2):
        assert select(options(strategy=None), in_training=True, **QUIET).outcome == "in_training"
        assert campaign_of(target).budget == 3 and not campaign_of(target).waiting()
    assert campaign_of(target).query_due(40)


def test_where_every_label_is_there_the_round_is_a_simulation(all_labelled, nnunet_folders):
    target = copy_of(all_labelled, nnunet_folders)
    result = select(options(), **QUIET)
    campaign = campaign_of(target)
    assert result.outcome == "simulated" and campaign.labelled() == sorted(result.query.requested)
    assert not result.handed_over and not campaign.waiting()


def test_cases_are_excluded_also_where_no_round_is_made(target):
    start(oracle="folder")
    assert select(options(strategy=None, exclude=("case_3",)), in_training=True, **QUIET).outcome == "in_training"
    assert campaign_of(target).excluded == ("case_3",)
    select(options(n=1), **QUIET)
    other = next(case for case in ("case_1", "case_2", "case_4") if case not in campaign_of(target).waiting())
    assert select(options(exclude=(other,)), **QUIET).outcome == "waiting"
    assert campaign_of(target).excluded == tuple(sorted(("case_3", other)))
    rest = {f"case_{i}" for i in range(1, 6)} - {*campaign_of(target).excluded, *campaign_of(target).waiting()}
    end = select(options(exclude=tuple(rest)), more=True, **QUIET)
    assert end.outcome == "empty" and "No case was excluded for good" in end.message
    assert campaign_of(target).excluded == tuple(sorted(("case_3", other)))


@pytest.mark.parametrize(
    "more", [{"must_include": ("case_1",)}, {"minutes": 30.0}, {"strategy": "entropy"}, {"seed": 7}], ids=str
)
def test_what_a_training_would_not_heed_is_refused_where_it_is_left_the_question(target, more):
    start(oracle="folder")
    with pytest.raises(CampaignError, match="does not go with --in-training"):
        select(options(**{"strategy": None, **more}), in_training=True, **QUIET)
    with pytest.raises(CampaignError, match="--dry-run shows"):
        select(options(), dry_run=True, in_training=True, **QUIET)


def test_a_dry_run_says_what_the_command_would_while_cases_wait(target):
    made = select(options(n=1), **QUIET)
    look = select(options(n=1), dry_run=True, **QUIET)
    assert look.outcome == select(options(n=1), **QUIET).outcome == "waiting"
    assert look.query.requested == made.query.requested
    more = select(options(n=1), dry_run=True, more=True, **QUIET)
    assert more.outcome == "proposed" and set(more.query.requested).isdisjoint(made.query.requested)


def test_a_broken_scan_is_named_and_the_others_are_chosen_from(target):
    file = target.raw / "imagesTr" / "case_3_0001.nii.gz"
    file.write_bytes(file.read_bytes()[:200])
    result = select(options(n=5), **QUIET)
    assert "case_3" in result.problems and sorted(result.query.requested) == ["case_1", "case_2", "case_4", "case_5"]


# --- annotate -------------------------------------------------------------------------------------------------------------------------


def test_a_request_of_a_training_is_handed_over_with_the_network_that_asked(target, tmp_path):
    campaign = start()
    request(campaign, "case_2", made_by="training")
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth", seed=9)
    result = annotate(SelectOptions(NAME, processes=1), tmp_path / "here", copy_images=True, **QUIET)
    folder = tmp_path / "here"
    assert result.handed_over[0].folder == folder and campaign_of(target).handoff_folder(1) == folder
    assert not (folder / "case_2" / "case_2_0000.nii.gz").is_symlink()


def test_a_folder_with_finished_labels_is_not_left_behind(target, tmp_path):
    handed = select(options(n=1), **QUIET).handed_over[0]
    (case,) = handed.cases
    shutil.copy(target.label(case, 3), handed.folder / case / f"{case}.nii.gz")
    (target.raw / "labelsTr" / f"{case}.nii.gz").unlink()
    with pytest.raises(CampaignError, match="holds finished labels"):
        annotate(SelectOptions(NAME, processes=1), tmp_path / "elsewhere", **QUIET)
    assert list(ingest(NAME, log=silent).taken) == [case]


def test_nothing_to_annotate_is_a_friendly_end_and_no_campaign_is_not(target):
    with pytest.raises(MissingInput, match="There is no campaign"):
        annotate(SelectOptions(NAME), **QUIET)
    start()
    assert "No case waits" in annotate(SelectOptions(NAME, processes=1), **QUIET).message


def select_in_a_fork() -> None:
    """A forked process cannot use the threads of its parent's networks; alone it needs none."""
    torch.set_num_threads(1)
    select(options(strategy="assft"), **QUIET)


# --- a kill at any moment ------------------------------------------------------------------------------------------------------


@needs_fork
def test_killed_before_any_of_its_renames_the_same_command_comes_to_the_same_state(made, target, tmp_path):
    reference = copy_of(made, tmp_path / "reference")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, str(tmp_path / "reference" / variable))
        select(options(strategy="assft"), **QUIET)
    wanted = json.loads(json.dumps(state(reference)).replace(str(reference.root), str(target.root)))
    kills, step = 0, 0
    while True:
        for folder in ("nnUNet_raw", "nnUNet_preprocessed"):
            shutil.rmtree(target.root / folder)
        copy_of(made, target.root)
        if not killed_before_rename(select_in_a_fork, step):
            break
        kills += 1
        result = select(options(strategy="assft"), **QUIET)
        assert result.outcome in ("asked", "waiting")
        assert state(target) == wanted, f"after a kill before rename {step}"
        step += 1 if step < 3 else 3
    assert kills > 5


@pytest.mark.long
@needs_fork
def test_killed_at_a_hundred_random_moments_the_same_command_comes_to_the_same_state(made, target, tmp_path):
    rng = np.random.default_rng(0)
    reference = copy_of(made, tmp_path / "reference")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, str(tmp_path / "reference" / variable))
        begin = time.perf_counter()
        select(options(strategy="assft"), **QUIET)
        whole = time.perf_counter() - begin
    wanted = json.loads(json.dumps(state(reference)).replace(str(reference.root), str(target.root)))
    kills = 0
    while kills < 100:
        for folder in ("nnUNet_raw", "nnUNet_preprocessed"):
            shutil.rmtree(target.root / folder)
        copy_of(made, target.root)
        while killed_after(select_in_a_fork, rng.uniform(0, 1.2 * whole)):
            kills += 1
        assert state(target) == wanted, f"after {kills} kills"
