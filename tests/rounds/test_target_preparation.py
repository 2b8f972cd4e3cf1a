from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
import tiny_source
from tiny_rounds import CASES, plan_another, start
from tiny_target import NAME, PLANS

from nnunet_active.rounds.target_preparation import SelectOptions, open_target, prepare
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput
from nnunet_active.workspace import Workspace


def options(**more) -> SelectOptions:
    return SelectOptions(NAME, **{"configuration": "3d_fullres", "processes": 1, **more})


def test_plans_and_cases_are_made_once(target):
    shutil.rmtree(target.preprocessed)
    said = []
    first = prepare(options(model=target.model), said.append)
    assert first.workspace.store.identifiers() == CASES and len(first.report.done) == 6
    assert first.workspace.plans_name == PLANS
    assert any("Channels matched by name" in sentence for sentence in said)
    second = prepare(options(model=target.model), said.append)
    assert second.report.done == [] and len(second.report.skipped) == 6


def test_without_plans_the_model_has_to_be_named(target):
    shutil.rmtree(target.preprocessed)
    with pytest.raises(MissingInput, match="name the source model with -m"):
        prepare(options())
    assert not target.preprocessed.exists()


def test_configuration_and_plans_are_the_campaigns(target):
    assert prepare(options(configuration=None)).workspace.configuration == "3d_fullres"  # the only one that is planned
    plan_another(target)
    with pytest.raises(MissingInput, match="name the configuration with -c"):
        prepare(options(configuration=None))
    assert Workspace(NAME).found_campaign is None
    start()
    found = prepare(options(configuration=None)).workspace
    assert (found.configuration, found.plans_name) == ("3d_fullres", PLANS)
    with pytest.raises(CampaignError, match="is for -p nnUNetActivePlans, not nnUNetPlans"):
        prepare(options(plans="nnUNetPlans"))


@pytest.mark.parametrize("planned", [True, False])
def test_a_first_round_takes_the_configuration_of_the_model_also_where_plans_are_there(target, planned):
    if not planned:
        shutil.rmtree(target.preprocessed)
    assert open_target(options(configuration=None, model=target.model)).workspace.configuration == "3d_fullres"


def test_where_the_plans_lack_the_configuration_of_the_model_they_say_so(target):
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_lowres"] = plans["configurations"].pop("3d_fullres")
    file.write_text(json.dumps(plans))
    with pytest.raises(
        MissingInput,
        match=r"they have 3d_lowres\. nnunet_active plan -d Dataset902_TinyTarget -m MODEL -c 3d_fullres adds",
    ):
        open_target(options(configuration=None, model=target.model))


def test_a_misspelt_case_is_refused_before_anything_is_done(target):
    with pytest.raises(ActiveError, match=r"has no case case_33; did you mean case_3"):
        prepare(options(must_include=("case_33",)))


def test_a_pool_folder_is_remembered_only_if_it_can_be_read(target, tmp_path):
    clash = tmp_path / "clash"
    clash.mkdir()
    for channel in range(3):
        shutil.copy(target.raw / "imagesTr" / f"case_1_{channel:04d}.nii.gz", clash)
    with pytest.raises(ActiveError, match="case_1 is in the pool folder"):
        prepare(options(pool_folders=(clash,)))
    assert not (target.preprocessed / "active" / "pool_folders.json").exists()


@pytest.mark.parametrize("of_source", ["Tiff3DIO", "SimpleITKIO"])  # the latter does not read this format
def test_the_first_round_finds_its_reader_by_the_images_of_its_pool_folders(target, tmp_path, of_source):
    """nnU-Net's choice without any image would be a reader of flat pictures."""
    shutil.rmtree(target.preprocessed)
    for name in ("imagesTr", "labelsTr"):
        shutil.rmtree(target.raw / name)
        (target.raw / name).mkdir()
    file = target.raw / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "file_ending": ".tif"}))
    pool = tmp_path / "pool"
    pool.mkdir()
    for channel in range(3):
        array = np.random.default_rng(channel).integers(0, 255, (12, 16, 16)).astype(np.uint8)
        tifffile.imwrite(pool / f"new_{channel:04d}.tif", array)
    (pool / "new.json").write_text(json.dumps({"spacing": [1.5, 1.5, 1.5]}))
    source = tiny_source.source_model()
    source.plans["image_reader_writer"] = of_source
    model = tiny_source.write_trained(source, tmp_path / "model_of_tiff")
    opened = open_target(SelectOptions(NAME, "3d_fullres", model=model, pool_folders=(pool,), processes=1))
    assert opened.planner.plan()["image_reader_writer"] == "Tiff3DIO"
    report = prepare(opened.options, lambda sentence: None, opened).report
    assert report.done == ["new"] and not report.problems
