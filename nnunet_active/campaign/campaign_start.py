"""Starts a campaign from what is on disk, for ``nnunet_active init`` and for a trainer that finds no campaign."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_state import Roles
from nnunet_active.campaign.cross_validation import check_folds
from nnunet_active.campaign.fine_tuning import FEWEST, FineTuning
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.campaign.running import running_trainings
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slices_at_start import slices_at_start
from nnunet_active.campaign.splits import FoldDefinition, check_can_begin, check_names, define_fold
from nnunet_active.commands import Commands
from nnunet_active.data.cases import open_store
from nnunet_active.data.dataset_json import read_dataset_json
from nnunet_active.data.ignore_label import require_ignore_value
from nnunet_active.data.patients import Patients
from nnunet_active.nnunet.nnunet_paths import raw_root
from nnunet_active.nnunet.stock_folds import stock_folds
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import ActiveError, CampaignError, CampaignInUse, MissingInput
from nnunet_active.util.lock import hold
from nnunet_active.util.log import Log
from nnunet_active.util.outputs import keep_aside

Cases = tuple[Sequence[str], Sequence[str]]
"""Labelled cases, unlabelled cases."""


@dataclass(frozen=True)
class CampaignDraft:
    """A campaign that can begin: everything is checked and decided, but nothing is written yet.

    Attributes:
        place: data set, configuration, plans and fold.
        settings: how to query and train.
        roles: cases that are labelled, held out or left out from the start.
        pool: number of cases to choose from.
        made_by: ``init`` or ``select``.
        warnings: sentences about cases that are left out, or whose patient is not known.
    """

    place: Place
    settings: Settings
    roles: Roles
    pool: int
    made_by: str
    warnings: tuple[str, ...] = ()

    def begin(self, restart: bool = False, log: Log = print) -> Campaign:
        """Write ``campaign.json``.

        Args:
            restart: set an existing campaign aside (its folder is renamed, nothing is deleted).
            log: gets messages about what was decided.

        Raises:
            CampaignError: there is a campaign already, or another process is using it; the message names the process.
        """
        self.check_unit()
        self.check_place(restart)
        draft = self
        if restart:
            draft = self._without(_declined_in(self.place))
            set_aside(self.place.campaign_folder, log)
        with hold(self.place.campaign_folder):
            return draft._tell(Campaign.create(self.place, self.settings, draft.roles, self.made_by), log)

    def check_place(self, restart: bool = False) -> None:
        """Refuse an existing campaign as :meth:`begin` does, before anything is written.

        Raises:
            CampaignError: see :meth:`begin`.
        """
        if restart:
            _check_unused(self.place.campaign_folder)
        else:
            Campaign.create(self.place, self.settings, self.roles, self.made_by, save=False)

    def in_memory(self, log: Log = print) -> Campaign:
        """The campaign as :meth:`begin` would start it; nothing is written."""
        return self._tell(Campaign.create(self.place, self.settings, self.roles, self.made_by, save=False), log)

    def _without(self, declined: Mapping[str, str]) -> CampaignDraft:
        """The draft, if nobody can label these cases: that is no matter of one campaign."""
        roles = self.roles
        settled = {*roles.initial, *roles.val, *roles.excluded}
        declined = {case: reason for case, reason in declined.items() if case not in settled}
        return replace(self, roles=replace(roles, declined=declined), pool=self.pool - len(declined))

    def check_unit(self) -> None:
        """Refuse slices without an ignore label as :meth:`begin` does, before anything is written.

        Raises:
            CampaignError: says how to declare one.
        """
        if self.settings.unit == "slice":
            file = self.place.dataset_folder / "dataset.json"
            require_ignore_value(read_dataset_json(file).content, file)

    def _tell(self, campaign: Campaign, log: Log) -> Campaign:
        place, settings, roles = self.place, self.settings, self.roles
        log(
            f"Campaign of {place.dataset} {place.configuration} fold {place.fold}: {self.pool} cases to choose from, "
            f"{len(campaign.labelled())} labelled from the start, {len(campaign.val)} held out"
            + (f" ({roles.split_origin})" if roles.split_origin else "")
            + f"; oracle {settings.oracle}, strategy {settings.strategy}, budget {settings.budget}{_of_what(settings)}."
        )
        for sentence in self.warnings:
            log(f"WARNING: {sentence}")
        if roles.declined:
            log(f"Declined before, and not asked for now: {', '.join(sorted(roles.declined))}.")
        if settings.in_slices and campaign.val:
            log(
                "Label held-out cases as a whole: a few slices of a scan say little about how well all of it is predicted."
            )
        if settings.folds > 1:
            log(
                f"Each labelled case belongs to one of {settings.folds} folds from its arrival on; splits_final.json holds them "
                f"all as soon as every fold has a case."
            )
        elif not campaign.val:
            log(
                "WARNING: no labelled case is held out, so validation runs on the training cases and says nothing about new ones."
            )
        tuning = FineTuning.of(settings.fine_tuning)
        if tuning.chosen_by_held_out and settings.folds <= 1 and len(campaign.val) < FEWEST:
            log(
                f"WARNING: the recipe held_out needs {FEWEST} held-out cases to choose by, and there are {len(campaign.val)}: alpha "
                f"stays {tuning.first_interpolation:g}. Hold cases out, or take --recipe guarded."
            )
        return campaign


def _of_what(settings: Settings) -> str:
    """What the budget counts, if it counts slices."""
    return f" slices, at most {settings.per_case} of a case in a query" if settings.unit == "slice" else ""


def start_campaign(
    place: Place, settings: Settings, oracle: str | None = None, log: Log = print, cases: Cases | None = None
) -> Campaign:
    """Draft a campaign (:func:`draft_campaign`) and begin it."""
    return draft_campaign(place, settings, oracle, cases=cases).begin(log=log)


def _preprocessed(place: Place) -> Cases:
    store = open_store(place.dataset, place.plans, place.configuration)
    return store.labelled_identifiers(), store.pool_identifiers()


def draft_campaign(
    place: Place,
    settings: Settings,
    oracle: str | None = None,
    percent: Mapping[str, float] | None = None,
    made_by: str = "init",
    cases: Cases | None = None,
) -> CampaignDraft:
    """Look at the labels and splits, and decide which cases may be queried.

    Args:
        place: data set, configuration, plans and fold.
        settings: how to query and train; their oracle is ignored.
        oracle: ``retrospective`` or ``folder``; None for retrospective if every case has a label, else folder.
        percent: settings (``budget``, ``query_size``) given in percent of the cases to choose from, rounded up.
        made_by: ``init`` or ``select``.
        cases: labelled and unlabelled cases, if already known; None for the preprocessed ones.

    Raises:
        MissingInput, CampaignError: see the message.
    """
    get_strategy(
        settings.strategy, **settings.strategy_options
    )  # raises for an unknown name before anything is written
    FineTuning.of(settings.fine_tuning)
    PseudoLabelSettings.of(settings.pseudo_labels)
    dataset, fold = place.dataset, place.fold
    if fold != "all" and not fold.isdecimal():
        raise CampaignError(f"-f {fold} is neither a number nor 'all'.")
    labelled, unlabelled = _preprocessed(place) if cases is None else cases
    if not labelled and not unlabelled:
        commands = Commands(dataset, place.configuration, place.plans)
        raise MissingInput(
            f"Run {commands.preprocess()} first: no preprocessed case was found in {place.dataset_folder} for the plans {place.plans}."
        )
    settings = replace(settings, oracle=oracle or ("folder" if unlabelled else "retrospective"))
    simulated = settings.labels_are_withheld
    patients = settings.patients
    warnings = patients.check({*labelled, *unlabelled})
    generated = stock_folds(patients.cases_of(labelled)) if simulated else None
    raw = raw_root() / dataset
    check_folds(place.dataset_folder, fold, settings.folds, raw, generated)
    if settings.folds > 1:  # no predefined folds: cases get their folds as their labels arrive
        generated = None
    definition = define_fold(place.dataset_folder, fold, raw, generated) if settings.folds <= 1 else None
    other_folds = check_can_begin(place.dataset_folder, fold, raw, generated)
    if definition is not None:
        warnings += check_names(definition, fold, labelled, unlabelled)
    roles, pool = _divide(labelled, unlabelled, definition, simulated, patients)
    counts = {name: max(1, math.ceil(round(share * pool / 100, 9))) for name, share in (percent or {}).items()}
    slices = slices_at_start(place, roles.initial, settings.axis) if settings.in_slices and not simulated else {}
    roles = replace(roles, other_folds=other_folds, slices=slices)
    pool += len(slices)
    return CampaignDraft(place, replace(settings, **counts), roles, pool, made_by, warnings)


def _divide(
    labelled: Sequence[str],
    unlabelled: Sequence[str],
    definition: FoldDefinition | None,
    simulated: bool,
    patients: Patients,
) -> tuple[Roles, int]:
    """The roles of the cases at the start, and the number of cases to choose from.

    Raises:
        CampaignError: a split trains on one scan of a patient and holds another out.
    """
    there = set(labelled)
    train, held_out = (set(definition.train), set(definition.val)) if definition else (there, set())
    val = held_out & there
    initial = set() if simulated else (there & train) - val
    excluded = there - val - (train if simulated else initial)
    queryable = there - val if simulated else set(unlabelled)
    # a case that the user holds out is never asked for, even while it has no label, or no image yet
    excluded |= held_out - val
    if torn := sorted(patients.companions(val, initial)):
        raise CampaignError(
            f"{definition.origin} trains on {', '.join(torn)} and holds other scans of the same patients out (--groups); put all scans "
            f"of a patient on one side."
        )
    excluded |= patients.companions(held_out, (there | set(unlabelled)) - val)
    origin = definition.origin if definition else ""
    return Roles(sorted(initial), sorted(val), sorted(excluded), origin), len(queryable - excluded)


def _declined_in(place: Place) -> dict[str, str]:
    """What the campaign that is there was told that nobody can label; empty if there is none, or none that can be read."""
    try:
        campaign = Campaign.open(place.dataset_folder, place.fold)
    except ActiveError:
        return {}
    labelled = set(campaign.labelled())
    return {case: reason for case, reason in campaign.declined.items() if case not in labelled}


def set_aside(folder: Path, log: Log = print) -> None:
    """Rename a campaign's folder, so that a new campaign can begin; nothing is deleted.

    Raises:
        CampaignInUse: a training or another command is using the campaign; it would go on in the new one.
    """
    if folder.is_dir():
        _check_unused(folder)
        log(f"The campaign so far was kept as {keep_aside(folder).name}.")


def _check_unused(folder: Path) -> None:
    """Check that nothing uses the campaign. Most users hold its lock; other folds of a cross-validation only record that they train."""
    if not folder.is_dir():
        return
    if running := running_trainings(folder):
        raise CampaignInUse(f"{running[0].line()} Wait until it has ended, or stop it, and run the same command again.")
    with hold(folder):
        pass
