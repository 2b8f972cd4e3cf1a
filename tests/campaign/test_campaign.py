from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from killed_process import killed_after, killed_before_rename, needs_fork
from tiny_campaign import begin

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.campaign_state import FORMAT
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.splits import FILE_NAME, read_splits
from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.util.errors import CampaignError, MissingInput

CASES = [f"case_{i:02d}" for i in range(10)]
VAL, EXCLUDED = ("case_08",), ("case_09",)
USER = [
    {"train": CASES[:8], "val": ["case_08"]},
    {"train": ["case_09", *CASES[4:8]], "val": CASES[:4]},
    {"train": CASES[:8], "val": ["case_08", "case_09"]},
]


def write_user_splits(folder: Path) -> None:
    (folder / FILE_NAME).write_text(json.dumps(USER))


def create(folder: Path, fold: str = "0", **how) -> Campaign:
    how = {"val": VAL, "excluded": EXCLUDED, **how}
    settings = how.pop("settings", Settings(budget=3, query_size=2, stride=2, epochs=5))
    return begin(folder, fold, settings, **how)


def query(campaign: Campaign, epoch: int, picks: list[str], candidates: list[str] | None = None) -> None:
    candidates = sorted(candidates or picks)
    rng = np.random.default_rng([epoch, len(candidates)])
    values = rng.random((len(picks), len(candidates)))
    scores = pd.DataFrame({"mean_entropy": values[0], "confidence": np.nan, "utility": values[0]}, index=candidates)
    utilities = pd.DataFrame(values, columns=candidates)
    for step, pick in enumerate(picks):
        utilities.loc[step + 1 :, pick] = np.nan
    worklist = pd.DataFrame({"rank": range(1, len(picks) + 1), "case": picks})
    arrays = {"embedding": rng.random((len(candidates), 3)).astype(np.float32)}
    details = {"candidates": len(candidates)}
    campaign.append_round(RoundContent(picks, scores, utilities, worklist, arrays, details), epoch)


def order(number: int, candidates: list[str]) -> list[str]:
    """Some order of preference that depends on the round."""
    return sorted(candidates, key=lambda case: hashlib.sha256(f"{number}{case}".encode()).digest())


def train(folder: Path, fold: str = "0") -> None:
    """What a training does with a campaign; run again, it goes on where it was."""
    started = campaign_file(folder, fold).is_file()
    campaign = Campaign.open(folder, fold) if started else create(folder, fold)
    with campaign.lock():
        for epoch in range(campaign.settings.epochs):
            if campaign.query_due(epoch):
                number = len(campaign.rounds) + 1
                candidates = campaign.pool(CASES)
                picks = order(number, candidates)[: campaign.size_of_next_query()]
                query(campaign, epoch, picks, candidates)
            for case in campaign.waiting():
                campaign.mark_labelled([case])


def content(folder: Path) -> dict[str, bytes]:
    """All files but hidden ones; of ``.npz`` files, which hold the time, the arrays, and of a campaign all but when it began."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            with np.load(path) if path.suffix == ".npz" else tempfile.TemporaryFile() as file:
                data = {name: file[name].tolist() for name in file} if path.suffix == ".npz" else path.read_bytes()
            if path.name == "campaign.json":
                data = re.sub(rb'"begun": "[^"]+"', b"", data)
            found[str(path.relative_to(folder))] = data
    return found


def check_whole(folder: Path) -> None:
    campaign = Campaign.open(folder, "0")
    splits = read_splits(folder / FILE_NAME)
    assert splits[1:] == USER[1:]
    assert splits[0]["val"] == list(VAL) and not set(splits[0]["train"]) & {*VAL}
    rounds = sorted(path.name for path in campaign.folder.glob("round_*"))
    assert len(rounds) - len(campaign.rounds) in (0, 1)
    for name in rounds:
        assert sorted(path.name for path in (campaign.folder / name).iterdir()) == [
            "embeddings.npz",
            "scores.csv",
            "selection.json",
            "worklist.csv",
        ]
    assert len(set(campaign.requested())) == len(campaign.requested())


# ---- kills ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_user_splits(folder)
    train(folder)
    campaign = Campaign.open(folder, 0)
    assert [len(one.requested) for one in campaign.rounds] == [2, 1] and campaign.exhausted
    assert read_splits(folder / FILE_NAME)[0] == {"train": sorted(campaign.requested()), "val": list(VAL)}
    return content(folder)


@needs_fork
def test_a_kill_at_any_write_goes_on_to_the_same_end(tmp_path, uninterrupted):
    number = 0
    while True:
        folder = tmp_path / f"killed_{number}"
        folder.mkdir()
        write_user_splits(folder)
        if not killed_before_rename(lambda folder=folder: train(folder), number):
            break
        if (folder / "active" / "fold_0" / "campaign.json").is_file():
            check_whole(folder)
        train(folder)
        assert content(folder) == uninterrupted
        shutil.rmtree(folder)
        number += 1
    assert number > 12
    assert content(folder) == uninterrupted


@needs_fork
def test_kills_at_odd_moments_one_after_another_go_on_to_the_same_end(tmp_path, uninterrupted):
    write_user_splits(tmp_path)
    create(tmp_path)
    delays = np.random.default_rng(0).uniform(0.01, 0.08, 30)
    for delay in delays:
        if not killed_after(lambda: train(tmp_path), delay):
            break
        check_whole(tmp_path)
    train(tmp_path)
    assert content(tmp_path) == uninterrupted


def test_a_round_whose_folder_is_there_is_adopted_by_the_next_holder(tmp_path):
    write_user_splits(tmp_path)
    campaign = create(tmp_path)
    query(campaign, 0, ["case_03", "case_01"], CASES[:8])
    before = campaign.folder.joinpath("campaign.json").read_text()
    query(campaign, 2, ["case_00"], ["case_00", "case_02"])
    (campaign.folder / "campaign.json").write_text(before)
    again = Campaign.open(tmp_path, 0)
    assert len(again.rounds) == 1
    with again.lock():
        assert [(one.number, one.epoch, one.requested) for one in again.rounds] == [
            (1, 0, ("case_03", "case_01")),
            (2, 2, ("case_00",)),
        ]
        assert again.waiting() == ["case_03", "case_01", "case_00"]
    assert Campaign.open(tmp_path, 0).requested() == again.requested()


def test_the_split_follows_when_the_kill_came_before_it(tmp_path):
    write_user_splits(tmp_path)
    campaign = create(tmp_path)
    query(campaign, 0, ["case_03"])
    campaign.mark_labelled(["case_03"])
    write_user_splits(tmp_path)  # as if it had not been written
    with Campaign.open(tmp_path, 0).lock():
        assert read_splits(tmp_path / FILE_NAME)[0]["train"] == ["case_03"]


# ---- any order of events ----------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        write_user_splits(self.folder)
        self.history: list[tuple] = []
        self.answered: set[str] = set()

    def teardown(self) -> None:
        self.temporary.cleanup()

    @initialize(initial=st.sets(st.sampled_from(CASES[:3])))
    def begin(self, initial):
        self.initial = initial
        settings = Settings(budget=8, stride=1, epochs=9)
        self.campaign = create(self.folder, initial=sorted(initial), settings=settings)

    @precondition(lambda self: not self.campaign.exhausted and self.campaign.pool(CASES))
    @rule(data=st.data(), save=st.booleans())
    def query(self, data, save):
        candidates = self.campaign.pool(CASES)
        picks = data.draw(st.lists(st.sampled_from(candidates), unique=True, min_size=1, max_size=3))
        epoch = len(self.campaign.rounds)
        assert self.campaign.query_due(epoch) and not self.campaign.query_due(epoch - 1)
        file = self.campaign.folder / "campaign.json"
        before = file.read_text()
        with self.campaign.lock():
            query(self.campaign, epoch, picks, candidates)
        self.history.append((epoch, tuple(picks)))
        if not save:  # as a kill between the two writes of a round
            file.write_text(before)
            self.reopen()

    @precondition(lambda self: self.campaign.waiting())
    @rule(data=st.data())
    def label(self, data):
        new = data.draw(st.sets(st.sampled_from(self.campaign.waiting()), min_size=1))
        assert set(self.campaign.mark_labelled(sorted(new))) == new
        assert self.campaign.mark_labelled(sorted(new)) == []
        self.answered |= new

    @rule()
    def reopen(self):
        self.campaign = Campaign.open(self.folder, "0")
        with self.campaign.lock():
            pass

    @rule(fold=st.sampled_from([1, 2]), cases=st.sets(st.sampled_from(CASES)))
    def user_edits_another_fold(self, fold, cases):
        splits = read_splits(self.folder / FILE_NAME)
        splits[fold]["train"] = sorted(cases)
        (self.folder / FILE_NAME).write_text(json.dumps(splits))

    @invariant()
    def rounds_are_only_appended(self):
        if hasattr(self, "campaign"):
            assert [(one.epoch, one.requested) for one in self.campaign.rounds] == self.history
            assert [one.number for one in self.campaign.rounds] == list(range(1, len(self.history) + 1))
            for one in self.campaign.rounds:
                assert one.selection()["requested"] == list(one.requested)

    @invariant()
    def nobody_is_asked_for_who_must_not_be(self):
        if hasattr(self, "campaign"):
            pool = self.campaign.pool(CASES)
            asked = [case for _, picks in self.history for case in picks]
            assert not {*pool} & {*VAL, *EXCLUDED, *self.initial, *asked}
            assert {*pool, *VAL, *EXCLUDED, *self.initial, *asked} == set(CASES)
            assert len(asked) == len(set(asked))

    @invariant()
    def the_split_holds_what_is_labelled(self):
        if hasattr(self, "campaign") and (self.initial | self.answered):
            self.campaign.write_split()
            fold = read_splits(self.folder / FILE_NAME)[0]
            assert fold == {"train": sorted(self.initial | self.answered), "val": list(VAL)}
            assert self.campaign.labelled() == fold["train"]

    @invariant()
    def every_request_is_labelled_or_waiting(self):
        if hasattr(self, "campaign"):
            assert {*self.campaign.waiting()} == {*self.campaign.requested()} - self.answered


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=12, stateful_step_count=12, deadline=None)
TestAnyOrderOfEvents = AnyOrder.TestCase


# ---- reading ----------------------------------------------------------------------------------------------------------------


def test_everything_comes_back_as_it_was_written(tmp_path):
    campaign = create(tmp_path, initial=["case_01", "case_00"], split_origin="somebody")
    query(campaign, 0, ["case_05", "case_02"], ["case_02", "case_05", "case_07"])
    again = Campaign.open(tmp_path, 0)
    assert again.to_json() == campaign.to_json() and again.settings == campaign.settings
    assert (again.fold, again.configuration, again.plans) == ("0", "3d_fullres", "nnUNetActivePlans")
    assert (again.initial, again.val) == (("case_00", "case_01"), VAL)
    assert again.dataset_folder == tmp_path
    (one,) = again.rounds
    rng = np.random.default_rng([0, 3])
    assert one.scores()["mean_entropy"].tolist() == rng.random((2, 3))[0].tolist()
    assert one.scores()["confidence"].isna().all()
    first, second = one.selection()["utilities"]
    assert set(first) == {"case_02", "case_05", "case_07"} and set(second) == {"case_02", "case_07"}
    with np.load(one.folder / "embeddings.npz") as arrays:
        assert arrays["cases"].tolist() == one.scores().index.tolist() and arrays["embedding"].shape == (3, 3)
    assert pd.read_csv(one.folder / "worklist.csv")["case"].tolist() == ["case_05", "case_02"]


def test_case_names_that_look_like_something_else_stay_text(tmp_path):
    campaign = create(tmp_path)
    names = ["001", "1e3", "NA", "None", "nan", "null", "true"]
    query(campaign, 0, ["NA"], names)
    assert Campaign.open(tmp_path, 0).rounds[0].scores().index.tolist() == names


def test_labels_count_from_the_epoch_of_their_query(tmp_path):
    campaign = create(tmp_path, initial=["case_00"])
    query(campaign, 0, ["case_03", "case_01"])
    query(campaign, 2, ["case_02"])
    assert campaign.labelled() == campaign.labelled(0) == ["case_00"]
    assert campaign.mark_labelled(["case_02", "case_01", "case_00"]) == ["case_02", "case_01"]
    assert campaign.labelled(0) == campaign.labelled(1) == ["case_00", "case_01"]
    assert campaign.labelled(2) == campaign.labelled() == ["case_00", "case_01", "case_02"]
    assert campaign.waiting() == ["case_03"]


def test_queries_are_due_at_multiples_of_the_stride_from_their_own_epoch_on_until_the_budget_is_spent(tmp_path):
    campaign = create(tmp_path, settings=Settings(budget=2, stride=3, epochs=10))
    assert [epoch for epoch in range(10) if campaign.query_due(epoch)] == [0, 3, 6, 9]
    query(campaign, 0, ["case_00"])
    assert [epoch for epoch in range(10) if campaign.query_due(epoch)] == [3, 6, 9]
    query(campaign, 3, ["case_01"])
    assert campaign.exhausted and not any(map(campaign.query_due, range(10)))


def test_no_label_yet_leaves_the_split_file_alone(tmp_path):
    write_user_splits(tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    campaign = create(tmp_path)
    query(campaign, 0, ["case_00"])
    with campaign.lock():
        pass
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_two_campaigns_on_two_folds_do_not_touch_each_other(tmp_path):
    write_user_splits(tmp_path)
    first = create(tmp_path, "0")
    second = create(tmp_path, "1", val=CASES[:4], excluded=["case_08"])
    with first.lock(), second.lock():
        query(first, 0, ["case_00"])
        query(second, 0, ["case_09", "case_05"])
        first.mark_labelled(["case_00"])
        second.mark_labelled(["case_09", "case_05"])
        first.mark_labelled([])
    assert read_splits(tmp_path / FILE_NAME) == [
        {"train": ["case_00"], "val": ["case_08"]},
        {"train": ["case_05", "case_09"], "val": CASES[:4]},
        USER[2],
    ]
    assert Campaign.open(tmp_path, 0).requested() == ["case_00"]
    assert Campaign.open(tmp_path, 1).requested() == ["case_09", "case_05"]


def test_fold_all_has_a_campaign_and_no_split(tmp_path):
    campaign = create(tmp_path, "all", val=[])
    query(campaign, 0, ["case_00"])
    campaign.mark_labelled(["case_00"])
    assert Campaign.open(tmp_path, "all").labelled() == ["case_00"]
    assert not (tmp_path / FILE_NAME).exists()


# ---- a new campaign in its place --------------------------------------------------------------------------------------------


def replaced(folder: Path) -> tuple[Campaign, Campaign]:
    """A campaign that somebody still works with, and the one that took its place."""
    old = create(folder)
    query(old, 0, ["case_01"])
    old.folder.rename(folder / "active" / "set_aside")
    return old, create(folder, settings=Settings(budget=2, stride=2, epochs=9))


@pytest.mark.parametrize(
    "work",
    [
        lambda campaign: campaign.refresh(),
        lambda campaign: query(campaign, 2, ["case_02"]),
        lambda campaign: campaign.extend(1),
        lambda campaign: campaign.mark_labelled(["case_01"]),
        lambda campaign: campaign.lock().__enter__(),
    ],
    ids=["refresh", "a round", "a setting", "a label", "the lock"],
)
def test_who_still_works_with_a_campaign_that_was_set_aside_writes_nothing_into_the_new_one(tmp_path, work):
    old, new = replaced(tmp_path)
    before = content(new.folder)
    with pytest.raises(CampaignError, match="holds another campaign by now"):
        work(old)
    assert content(new.folder) == before and Campaign.open(tmp_path, 0).settings.budget == 2


def test_a_campaign_of_an_earlier_version_is_told_from_the_new_one_too(tmp_path):
    file = create(tmp_path).folder / "campaign.json"
    written = json.loads(file.read_text())
    del written["begun"]
    file.write_text(json.dumps(written))
    old = Campaign.open(tmp_path, 0)
    assert old.begun == ""
    with old.lock():
        old.extend(1)  # it goes on as before
    old.folder.rename(tmp_path / "active" / "set_aside")
    create(tmp_path)
    with pytest.raises(CampaignError, match="another campaign"):
        old.extend(1)


def test_a_campaign_that_was_moved_away_is_not_begun_again_by_whoever_worked_with_it(tmp_path):
    campaign = create(tmp_path)
    campaign.folder.rename(tmp_path / "active" / "set_aside")
    with pytest.raises(MissingInput, match="no campaign for fold 0"):
        query(campaign, 0, ["case_01"])
    assert not campaign.folder.exists()


# ---- what is refused --------------------------------------------------------------------------------------------------------


def test_a_second_campaign_of_a_fold_is_refused(tmp_path):
    create(tmp_path)
    with pytest.raises(CampaignError, match=r"fold 0 has a campaign.*--restart"):
        create(tmp_path)


def test_no_campaign_says_how_to_start_one(tmp_path):
    with pytest.raises(MissingInput, match=r"no campaign for fold 3 .* nnunet_active next -d .* says how to start one"):
        Campaign.open(tmp_path, 3)


def test_a_later_format_asks_for_an_update(tmp_path):
    file = create(tmp_path).folder / "campaign.json"
    file.write_text(json.dumps({"format": FORMAT + 1, "what": "ever"}))
    with pytest.raises(CampaignError, match=f"has format {FORMAT + 1}, .*update nnunet_active"):
        Campaign.open(tmp_path, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: "{}",
        lambda text: text.replace('"format": 1', '"format": "one"'),
        lambda text: text.replace('"settings"', '"set_tings"'),
        lambda text: text.replace('"rounds": []', '"rounds": null'),
        lambda text: text.replace('"labelled"', '"lab"'),
        lambda text: text.replace('"budget": 3', '"budget": "five"'),
        lambda text: text.replace('"excluded"', '"ex"'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage):
    file = create(tmp_path).folder / "campaign.json"
    damaged = damage(file.read_text())
    assert damaged != file.read_text()
    file.write_text(damaged)
    with pytest.raises(CampaignError, match=r"campaign\.json is not a campaign file"):
        Campaign.open(tmp_path, 0)
    assert file.read_text() == damaged


def test_a_round_is_recorded_whole_or_not_at_all(tmp_path):
    campaign = create(tmp_path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        frame = pd.DataFrame({"a": [1.0]}, index=["case_00"])
        campaign.append_round(RoundContent(["case_00"], frame, frame.T, frame, {}, {"object": object()}))
    assert campaign.rounds == [] and sorted(os.listdir(campaign.folder)) == ["campaign.json"]
    query(campaign, 0, ["case_00"])
    assert len(Campaign.open(tmp_path, 0).rounds) == 1


@needs_fork
def test_another_process_on_the_same_campaign_is_told(tmp_path):
    create(tmp_path)
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        with Campaign.open(tmp_path, 0).lock():
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    try:
        with pytest.raises(CampaignError, match=f"in use by process {process} "), Campaign.open(tmp_path, 0).lock():
            pass
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    with Campaign.open(tmp_path, 0).lock():
        pass


def select(campaign: Campaign, picks: list[str]) -> None:
    """A round between trainings."""
    scores = pd.DataFrame({"mean_entropy": 1.0, "utility": 1.0}, index=sorted(picks))
    utilities = pd.DataFrame(np.ones((1, len(picks))), columns=sorted(picks))
    campaign.append_round(RoundContent(picks, scores, utilities, pd.DataFrame({"case": picks})), made_by="select")


def test_a_declined_case_waits_no_longer_is_never_asked_for_again_and_is_replaced_at_once(tmp_path):
    campaign = create(tmp_path, settings=Settings(budget=2, stride=2, epochs=9))
    query(campaign, 0, ["case_00"], CASES)
    assert campaign.decline(["case_00", "case_01"], "the scan shows a phantom") == ["case_00"]
    assert campaign.waiting() == [] and "case_00" not in campaign.pool(CASES)
    assert not campaign.exhausted and campaign.query_due(0)
    query(campaign, 0, ["case_01"])
    assert Campaign.open(tmp_path, "0").declined == {"case_00": "the scan shows a phantom"}
    assert campaign.waiting() == ["case_01"] and not campaign.query_due(0) and campaign.query_due(2)
    query(campaign, 2, ["case_02"])
    assert campaign.exhausted


def test_a_case_that_has_its_label_cannot_be_declined(tmp_path):
    campaign = create(tmp_path)
    query(campaign, 0, ["case_00", "case_01"])
    campaign.mark_labelled(["case_00"])
    assert campaign.decline(["case_00"]) == [] and campaign.labelled() == ["case_00"]


def test_rounds_between_trainings_are_there_from_the_first_epoch_and_delay_the_trainings_own_query_by_a_stride(
    tmp_path,
):
    campaign = create(tmp_path, settings=Settings(budget=2, query_size=2, stride=3, epochs=9))
    select(campaign, ["case_00", "case_01"])
    campaign.mark_labelled(["case_00", "case_01"])
    assert campaign.labelled(epoch=0) == ["case_00", "case_01"]
    assert campaign.exhausted and not any(map(campaign.query_due, range(9)))
    campaign.extend(1)
    assert campaign.size_of_next_query() == 1
    assert [epoch for epoch in range(9) if campaign.query_due(epoch)] == [3, 6]
    assert [one.made_by for one in Campaign.open(tmp_path, "0").rounds] == ["select"]


def test_a_round_between_trainings_that_a_kill_kept_out_of_the_campaign_file_is_adopted_as_such(tmp_path):
    campaign = create(tmp_path)
    before = (campaign.folder / "campaign.json").read_bytes()
    select(campaign, ["case_00"])
    (campaign.folder / "campaign.json").write_bytes(before)
    with (again := Campaign.open(tmp_path, "0")).lock():
        assert [(one.requested, one.made_by) for one in again.rounds] == [(("case_00",), "select")]


def test_what_came_back_and_where_it_was_handed_off_is_kept(tmp_path):
    campaign = create(tmp_path)
    query(campaign, 0, ["case_00"])
    campaign.record_handoff(1, tmp_path / "to_annotate")
    campaign.record_label("case_00", {"dice": {"tumour": 0.5}})
    campaign.exclude(["case_03"])
    again = Campaign.open(tmp_path, "0")
    assert again.handoff_folder(1) == tmp_path / "to_annotate" and again.handoff_folder(2) is None
    assert again.ingested == {"case_00": {"dice": {"tumour": 0.5}}}
    assert "case_03" not in again.pool(CASES) and "case_09" not in again.pool(CASES)


# ---- what others wrote ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("initial", ["../../../../etc/x"]),
        ("val", ["a/b"]),
        ("excluded", [".hidden"]),
        ("labelled", {"../x": 0}),
        ("rounds", [{"number": 1, "epoch": 0, "requested": ["..\\x"]}]),
        ("declined", {"a\nb": ""}),
        ("fold_of", {"x/y": 0}),
        ("plans", "../../other"),
        ("configuration", "a/b"),
        ("fold", "../fold_1"),
    ],
)
def test_a_name_that_leads_out_of_the_folders_is_refused_wherever_it_stands(tmp_path, name, value):
    write_user_splits(tmp_path)
    campaign = create(tmp_path, initial=["case_00"])
    file = campaign.folder / "campaign.json"
    file.write_text(json.dumps({**campaign.to_json(), name: value}))
    before = content(tmp_path)
    with pytest.raises(CampaignError, match=r"campaign\.json is not a campaign file"):
        Campaign.open(tmp_path, "0")
    assert content(tmp_path) == before


def test_a_campaign_file_of_another_fold_is_not_taken_for_this_one(tmp_path):
    campaign = create(tmp_path, "1")
    shutil.copytree(campaign.folder, campaign_file(tmp_path, 0).parent)
    with pytest.raises(CampaignError, match=r"campaign\.json is that of fold 1"):
        Campaign.open(tmp_path, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"requested": ["../../x"]}, "is not the record of a round"),
        ({"requested": ["case_00"]}, "case_00 cannot be asked for, it is waiting"),
        ({"requested": ["case_08"]}, "case_08 cannot be asked for, it is held out"),
        (
            {"requested": ["case_07"]},
            r"scores\.csv is not the table of scores of round 2 \(case_07: no row or column of its own",
        ),
        ({"requested": ["case_02", "case_02"]}, "asks for a case twice"),
        ({"number": 3}, "it is that of round 3"),
        ({"epoch": -1}, "is not the record of a round"),
    ],
)
def test_a_round_that_was_made_by_hand_is_not_adopted(tmp_path, change, reason):
    write_user_splits(tmp_path)
    campaign = create(tmp_path, initial=["case_06"])
    query(campaign, 0, ["case_00"])
    before = (campaign.folder / "campaign.json").read_bytes()
    query(campaign, 2, ["case_02"])
    (campaign.folder / "campaign.json").write_bytes(before)
    file = campaign.folder / "round_002" / "selection.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    before = content(tmp_path)
    with pytest.raises(CampaignError, match=reason), Campaign.open(tmp_path, 0).lock():
        pass
    assert content(tmp_path) == before


def test_a_split_file_with_a_name_that_leads_out_of_the_folders_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps([{"train": ["case_00"], "val": ["../../../../etc/x"]}]))
    campaign = create(tmp_path, initial=["case_00"])
    before = content(tmp_path)
    with pytest.raises(CampaignError, match=r"splits_final\.json is not a split file of nnU-Net's"), campaign.lock():
        pass
    assert content(tmp_path) == before


@needs_fork
def test_what_a_killed_command_left_is_gone_once_the_campaign_is_held(tmp_path):
    write_user_splits(tmp_path)
    campaign = create(tmp_path)
    assert killed_before_rename(lambda: query(campaign, 0, ["case_00"]), 0)
    assert [path for path in tmp_path.rglob(".*.tmp")]
    with Campaign.open(tmp_path, 0).lock():
        assert not [path for path in tmp_path.rglob(".*.tmp")]


def test_a_label_that_a_training_found_unasked_counts_from_its_epoch_on_until_a_training_begins_anew(tmp_path):
    campaign = create(tmp_path, initial=["case_00"])
    campaign.mark_labelled(["case_01"], epoch=3)
    campaign.mark_labelled(["case_02"])
    again = Campaign.open(tmp_path, 0)
    assert again.labelled(0) == ["case_00", "case_02"] == again.labelled(2)
    assert again.labelled(3) == again.labelled() == ["case_00", "case_01", "case_02"]
    again.begin_training()
    assert Campaign.open(tmp_path, 0).labelled(0) == ["case_00", "case_01", "case_02"]
