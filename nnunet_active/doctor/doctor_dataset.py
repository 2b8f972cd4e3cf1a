"""The part of `doctor` that checks one data set: raw scans, plans, source network, preprocessed cases, splits, campaign."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property

from nnunet_active.campaign.splits import FILE_NAME, read_splits
from nnunet_active.campaign.status import rounds_in_words
from nnunet_active.commands import DEFAULT_SIZE, Commands
from nnunet_active.data.case_writer import is_current
from nnunet_active.data.cases_set_aside import cases_set_aside
from nnunet_active.doctor.doctor import Check, name_some, run_checks
from nnunet_active.doctor.doctor_slices import check_partly_labelled
from nnunet_active.models.source_model import carry_over
from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.nnunet_paths import dataset_name, raw_root
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import ActiveError, CampaignError
from nnunet_active.workspace import Workspace


def examine_dataset(dataset: str, configuration: str | None, plans: str | None, fold: str) -> list[Check]:
    """All checks of a data set.

    Args:
        dataset: number or name.
        configuration: None for that of the fold's campaign, else the only one in the plans.
        plans: plans identifier; None for that of the fold's campaign, else the default one.
        fold: number as text, or ``all``.
    """
    try:
        target = _Target(dataset_name(dataset), fold, configuration, plans)
        target.folder  # noqa: B018 - an unset variable is one problem, not one per check
    except ActiveError as error:
        return [Check("data set", "problem", str(error))]
    raw, splits = ("raw data set", target.check_raw), (FILE_NAME, target.check_splits)
    raw_splits = (f"{FILE_NAME} of the raw folder", target.check_raw_splits)
    if target.is_new:
        return run_checks([raw, ("plans", target.before_the_first_select), splits, raw_splits])
    return run_checks(
        [
            raw,
            ("plans", target.check_plans),
            ("source network", target.check_source),
            ("preprocessed cases", target.check_cases),
            splits,
            raw_splits,
            ("campaign", target.check_campaign),
            ("partly labelled cases", lambda: check_partly_labelled(target)),
        ]
    )


class _Target(Workspace):
    @property
    def commands(self) -> Commands:
        """For the named fold; a damaged campaign is a finding and must not stop the checks."""
        return Commands(self.dataset, self.configuration, self.plans_name, self.fold)

    @cached_property
    def configuration(self) -> str:
        """As in a workspace, but a damaged campaign is a finding and must not stop the checks."""
        with contextlib.suppress(CampaignError):
            return super().configuration
        return self.only_configuration

    @property
    def is_new(self) -> bool:
        """Whether nobody has made or named plans yet, as with a data set before its first ``select``."""
        return self._plans_name is None and not self.plans_file.is_file() and not (self.folder / "active").is_dir()

    def before_the_first_select(self) -> Check:
        size = min(DEFAULT_SIZE, max(1, len(self.raw.unlabelled)))
        first = Commands(self.dataset, self.named_configuration or "", self.plans_name, self.fold).select(
            size, "-m", "MODEL"
        )
        return Check("plans", "ok", f"none yet; the first select makes them: {first}")

    def check_raw(self) -> Iterator[Check]:
        raw = self.raw
        found = f"{raw.folder}: {len(raw.labelled)} cases with a label, {len(raw.unlabelled)} without"
        found += f", {len(raw.problems)} that cannot be used" if raw.problems else ""
        yield Check(
            "raw data set", "ok" if raw.cases else "problem", found, "" if raw.cases else "Put scans into imagesTr."
        )
        for state, sentences in (("problem", raw.problems), ("warning", raw.warnings)):
            if sentences:
                yield Check("raw cases", state, "\n".join(sentences.values()))

    def check_plans(self) -> Iterator[Check]:
        self.store.check_channels(self.channel_names)
        configured = self.store.configuration_manager
        spacing = " x ".join(f"{value:g}" for value in configured.spacing)
        patch = " x ".join(map(str, configured.patch_size))
        yield Check("plans", "ok", f"{self.plans_name}, {self.configuration}: {spacing} mm, patch {patch}")
        for key in ("channel_names", "labels", "file_ending"):
            ours, beside = self.raw.dataset_json.get(key), self.dataset_json.get(key)
            if ours != beside:
                yield Check(
                    "plans",
                    "problem",
                    f"{key} in the raw dataset.json is {ours}, in the copy beside the plans {beside}",
                    f"Plan again: {self.commands.plan()}",
                )

    def check_source(self) -> Iterator[Check]:
        plans = self.plans  # without plans there is nothing to compare the source with
        source = self.source
        network = build_network(plans, self.configuration, self.dataset_json)
        mapped = carry_over(network, source, plans, self.dataset_json)
        # what the source lacks starts at zero and is learnt; what the target lacks may be a misspelt name
        fits = mapped.head_trained and not mapped.channels.dropped and not mapped.heads.dropped
        by_name = mapped.channels.kind == "name" or mapped.channels.identity
        where = (
            f"{source.origin}, trained with {source.trainer_name} on {source.plans.get('dataset_name', 'unknown data')}"
        )
        advice = (
            ""
            if fits and by_name
            else "Look at these lines; names in the target's dataset.json decide what is matched."
        )
        yield Check(
            "source network", "ok" if fits and by_name else "warning", "\n".join([where, *mapped.lines()]), advice
        )

    def check_cases(self) -> Iterator[Check]:
        store = self.store
        labelled, pool = store.labelled_identifiers(), store.pool_identifiers()
        there = {*labelled, *pool}
        command = self.commands.preprocess()
        found = f"{len(labelled)} with a label in {store.folder}, {len(pool)} without in {store.pool_folder}"
        yield Check("preprocessed cases", "ok" if there else "problem", found, "" if there else command)
        aside = cases_set_aside(store, self.raw)
        refused = {case: sentence for case, sentence in aside.items() if case not in self.raw.problems}
        if refused:
            advice = f"Mend their files, then run {command}; until then they are not asked for."
            yield Check("cases set aside", "warning", "\n".join(refused.values()), advice)
        missing = [case for case in self.raw.cases if case not in {*there, *refused}]
        if missing and there:
            yield Check("preprocessed cases", "warning", f"not preprocessed yet: {name_some(missing)}", command)
        outdated = [
            case.identifier
            for case in self.raw.cases.values()
            if case.identifier in there
            and not (case.label is None and case.identifier in labelled)
            and not is_current(case, case.label is not None, store, self.dataset_json)
        ]
        if outdated:
            what = "older than their files, or made from other plans, or their label has arrived since"
            yield Check("preprocessed cases", "warning", f"{what}: {name_some(outdated)}", command)
        without = [case for case in labelled if case in self.raw.cases and self.raw.cases[case].label is None]
        if without:
            found = f"preprocessed with a label whose file is gone from labelsTr, and still used: {name_some(without)}"
            advice = (
                f"Put the labels back, or, to do without them, delete their files in {store.folder}, run {command}, and begin a new "
                f"campaign (nnunet_active init ... --restart) where one counts them already."
            )
            yield Check("preprocessed cases", "warning", found, advice)
        broken = sorted(there & {*self.raw.problems})
        if broken:
            found = f"preprocessed, but their files in the raw data set cannot be used any more (see raw cases): {name_some(broken)}"
            yield Check("preprocessed cases", "warning", found, "Mend the files; the preprocessed copies stay in use.")
        strangers = sorted(there - {*self.raw.cases, *self.raw.problems})
        if strangers:
            found = f"preprocessed, but not in the raw data set any more: {name_some(strangers)}"
            yield Check(
                "preprocessed cases", "warning", found, f"Delete their files in {store.folder.parent} if unwanted."
            )

    def check_splits(self) -> Iterator[Check]:
        splits = read_splits(self.folder / FILE_NAME)
        if splits is None:
            yield Check(FILE_NAME, "ok", "none yet; the campaign writes it when the first label is there")
            return
        yield Check(FILE_NAME, "ok", f"{len(splits)} fold(s)")
        if self.is_new:
            return
        if self.fold.isdigit() and int(self.fold) >= len(splits):
            yield Check(FILE_NAME, "warning", f"it has no fold {self.fold}", "Choose a fold that it has with -f.")
        labelled = {*self.store.labelled_identifiers()}
        for number, fold in enumerate(splits):
            mine = str(number) == self.fold
            name = f"{FILE_NAME}, fold {number}"
            absent = sorted({*fold["train"], *fold["val"]} - labelled)
            if absent:
                yield Check(
                    name,
                    "problem" if mine else "warning",
                    f"cases that are not preprocessed with a label: {name_some(absent)}; training this fold would fail",
                    f"{self._how_to_preprocess(absent)}, or take them out",
                )
            both = sorted({*fold["train"]} & {*fold["val"]})
            if both and {*fold["train"]} == {*fold["val"]}:
                found = "validation runs on the training cases, since no labelled case is held out"
                yield Check(
                    name, "warning", found, "Its scores say nothing about new cases; hold some labelled cases out."
                )
            elif both:
                found = f"cases in train and in val: {name_some(both)}"
                yield Check(
                    name, "problem", found, "Take them out of one of the two: validation is too good otherwise."
                )

    def check_raw_splits(self) -> Check:
        name = f"{FILE_NAME} of the raw folder"
        own, beside = read_splits(raw_root() / self.dataset / FILE_NAME), read_splits(self.folder / FILE_NAME)
        if own is None:
            return Check(name, "ok", "none")
        if beside is None:
            return Check(name, "ok", f"{len(own)} fold(s); it defines the folds")
        differing = [
            number
            for number, fold in enumerate(own)
            if number >= len(beside) or any({*fold[key]} != {*beside[number][key]} for key in ("train", "val"))
        ]
        if not differing:
            return Check(name, "ok", f"{len(own)} fold(s), as beside the preprocessed data")
        return Check(
            name,
            "warning" if self.found_campaign is None else "ok",
            f"fold(s) {', '.join(map(str, differing))} differ from those beside the preprocessed data. That is as it should be while "
            f"a campaign adds labels, and training is not affected;\nbut stock planning (nnUNetv2_plan_and_preprocess, "
            f"nnUNetv2_plan_experiment) compares the two and stops with an AssertionError without any text.",
            f"Before planning with nnU-Net itself, move {raw_root() / self.dataset / FILE_NAME} away, and put it back afterwards.",
        )

    def check_campaign(self) -> Iterator[Check]:
        campaign = self.found_campaign
        if campaign is None:
            yield Check("campaign", "ok", f"none for fold {self.fold} yet; {self.commands.init()} starts one")
            return
        settings = campaign.settings
        get_strategy(settings.strategy, **settings.strategy_options)
        yield Check(
            "campaign",
            "ok",
            f"fold {self.fold}, {settings.strategy}, oracle {settings.oracle}: {rounds_in_words(campaign)}, "
            f"{len(campaign.labelled())} cases labelled, {len(campaign.val)} held out",
        )
        if (campaign.plans, campaign.configuration) != (self.plans_name, self.configuration):
            yield Check(
                "campaign",
                "problem",
                f"it is for {campaign.plans} {campaign.configuration}, not for {self.plans_name} {self.configuration}",
                f"Use -p {campaign.plans} -c {campaign.configuration}, another fold, or nnunet_active init ... --restart.",
            )
            return
        if said := settings.patients.about_unnamed(self.raw.cases):
            yield Check("campaign", "warning", said)
        absent = sorted({*campaign.labelled(), *campaign.val} - {*self.store.labelled_identifiers()})
        if absent:
            yield from self._check_absent(absent)
        if campaign.waiting():
            found = f"waiting for the label of {name_some(campaign.waiting())}"
            yield Check("campaign", "ok", found, f"{self.commands.next()} says what comes next.")

    def _how_to_preprocess(self, cases: list[str]) -> str:
        """What brings cases with a label among the preprocessed ones; without a label file, preprocessing alone does not."""
        without = [case for case in cases if case in self.raw.unlabelled]
        first = f"Put the label of {name_some(without)} into labelsTr and run " if without else ""
        return f"{first}{self.commands.preprocess()}"

    def _check_absent(self, cases: list[str]) -> Iterator[Check]:
        """Cases that the campaign counts as labelled and that are not preprocessed with a label."""
        withdrawn = [case for case in cases if case in self.raw.unlabelled]
        if withdrawn:
            found = f"labelled cases whose label is gone from labelsTr: {name_some(withdrawn)}"
            advice = (
                f"{self._how_to_preprocess(withdrawn)}, or begin a new campaign with nnunet_active init ... --restart."
            )
            yield Check("campaign", "problem", found, advice)
        if others := [case for case in cases if case not in withdrawn]:
            found = f"labelled cases that are not preprocessed: {name_some(others)}"
            yield Check("campaign", "problem", found, self.commands.preprocess())
