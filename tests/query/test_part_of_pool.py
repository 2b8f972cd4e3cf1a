from __future__ import annotations

import pytest
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.cli.main import build_parser, main
from nnunet_active.cli.select import _part
from nnunet_active.query.part_of_pool import Part
from nnunet_active.query.pool_scoring import ScoringWork
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.log import silent

SELECT = ["select", "-d", "902", "-c", "3d_fullres", "-n", "2", "-np", "1", "-device", "cpu", "--strategy"]


@pytest.fixture
def passes(monkeypatch) -> list[str]:
    done, real = [], ScoringWork.begin
    monkeypatch.setattr(ScoringWork, "begin", lambda self, case, loaded: done.append(case) or real(self, case, loaded))
    return done


def test_parts_hold_every_case_once():
    cases = [f"{i:02}" for i in range(11)]
    assert sorted(case for number in range(3) for case in Part(number, 3).of(cases)) == cases
    assert Part(2, 3).of(cases) == cases[2::3] and Part(4, 5).of(cases[:2]) == []


@pytest.mark.parametrize("strategy", ["entropy", "assft"])
def test_what_the_parts_scored_is_found_by_the_query_after_them(target, passes, capsys, strategy):
    for part in ("1", "0"):
        assert main([*SELECT, strategy, "-num_parts", "2", "-part_id", part]) == 0
        assert f"Part {part} of 2: the scores of " in capsys.readouterr().out
    assert not (target.preprocessed / "active" / "fold_0").exists()
    unlabelled = [f"case_{i}" for i in range(1, 6)]
    assert sorted(set(passes)) == (unlabelled if strategy == "entropy" else ["case_0", *unlabelled])
    assert len(passes) == len(set(passes))
    passes.clear()
    assert main([*SELECT, strategy]) == 0 and passes == []
    assert len(Campaign.open(target.preprocessed, 0).waiting()) == 2


def test_a_part_has_its_own_share_and_no_other(target, passes):
    options = SelectOptions(NAME, configuration="3d_fullres", n=1, strategy="entropy", processes=1, part=Part(1, 3))
    found = select(options, log=silent)
    assert (found.outcome, passes) == ("scored", ["case_1", "case_4"])
    assert found.message == "Part 1 of 3: the scores of 2 cases are there; nothing was asked for."


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-num_parts", "2"], "-num_parts 2 goes with -part_id I, from 0 to 1."),
        (["-num_parts", "2", "-part_id", "2"], "-part_id 2 is not one of 2 parts; they are counted from 0."),
        (["-part_id", "-1"], "-part_id -1 makes no sense; it must be at least 0."),
    ],
)
def test_a_part_that_is_none_is_refused(target, capsys, flags, said):
    assert main([*SELECT, "entropy", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_part_is_not_scored_by_one_process_of_torchruns_while_the_others_wait(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    args = build_parser(SELECT).parse_args([*SELECT, "entropy", "-num_parts", "2", "-part_id", "0"])
    with pytest.raises(CampaignError, match="-part_id goes without torchrun"):
        _part(args)


def test_plans_are_made_by_the_first_part_alone(target):
    for file in target.preprocessed.glob("*.json"):
        file.unlink()
    where = {"configuration": "3d_fullres", "model": target.model, "processes": 1}
    with pytest.raises(MissingInput, match="part 0 makes them"):
        select(SelectOptions(NAME, **where, n=1, part=Part(1, 2)), log=silent)
