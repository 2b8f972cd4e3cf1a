"""Says where a campaign stands and which command comes next. Writes nothing, takes no lock and runs no network."""

from __future__ import annotations

from dataclasses import asdict, replace

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.fine_tuning import FineTuning
from nnunet_active.campaign.running import RunningTraining, running_trainings
from nnunet_active.campaign.splits import check_can_begin
from nnunet_active.commands import DEFAULT_SIZE, DEFAULT_SLICES, Commands, why_trainer
from nnunet_active.data.cases import CaseStore, make_store
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.nnunet.nnunet_paths import results_root
from nnunet_active.nnunet_discovery import export_line, is_listed
from nnunet_active.rounds.answer import newest_answer
from nnunet_active.rounds.changed_by_hand import changes_by_hand, withdrawn
from nnunet_active.rounds.forecast_record import forecast_sentences
from nnunet_active.rounds.step import NextStep
from nnunet_active.rounds.trained_models import Training, covered_folds, labels_to_train_on, missed_labels, trainings_of
from nnunet_active.workspace import Workspace


def next_step(workspace: Workspace) -> NextStep:
    """The next step in the campaign of a fold, or towards its first round.

    Args:
        workspace: its fold may be any fold of a campaign with cross-validation; configuration and plans matter only if there is no
            campaign yet.

    Raises:
        MissingInput: the data set was not found, or the configuration must be named.
        CampaignError: no campaign has begun, and none can begin in this fold.
    """
    if workspace.found_campaign is not None:
        workspace.campaign.adopt()
        return _of_campaign(workspace)
    return _before_the_campaign(workspace)


def _before_the_campaign(workspace: Workspace) -> NextStep:
    raw = workspace.raw
    planned = list(workspace.plans["configurations"]) if workspace.plans_file.is_file() else []
    configuration = workspace.configuration if planned else workspace.named_configuration or ""  # the source model's
    commands = Commands(raw.name, configuration, workspace.plans_name, workspace.fold)
    state = {"labelled": len(raw.labelled), "unlabelled": len(raw.unlabelled), "planned": planned}
    if raw.unlabelled:  # else a campaign would be a simulation, on nnU-Net's own folds
        check_can_begin(workspace.folder, workspace.fold, raw.folder)
    head = f"{raw.name}: {len(raw.labelled)} labelled and {len(raw.unlabelled)} unlabelled cases; no campaign of fold {workspace.fold}."
    if not raw.unlabelled:
        if not raw.labelled:
            return NextStep("done", "", (head, f"Put scans into {raw.folder / 'imagesTr'} first."), state=state)
        why = (
            head,
            "Every case has a label: a campaign would be a simulation that withholds each label until it is asked for.",
        )
        return NextStep("select", commands.init() if configuration in planned else commands.plan(), why, state=state)
    size = min(DEFAULT_SIZE, len(raw.unlabelled))
    if configuration not in planned:
        why = (head, "There are no plans yet: name the source model, and select plans, preprocesses and asks.")
        return NextStep("select", commands.select(size, "-m", "MODEL"), why, state=state)
    stored = set(make_store(raw.name, workspace.plans, configuration).identifiers())
    missing = len(set(raw.cases) - stored)
    ready = "All cases are preprocessed."
    if missing:
        ready = f"{missing} cases are not preprocessed yet; select does that first."
    also = (("to let the training ask by itself", commands.init()),)
    return NextStep("select", commands.select(size), (head, ready), also, {**state, "not_preprocessed": missing})


def _of_campaign(workspace: Workspace) -> NextStep:
    campaign, raw, store, commands = workspace.campaign, workspace.raw, workspace.store, workspace.commands
    folder_oracle = campaign.asks_a_person
    new = sorted(set(campaign.pool(raw.unlabelled)) - set(store.identifiers())) if folder_oracle else []
    pool, waiting = _with_open_slices(workspace, workspace.candidates(raw)), campaign.waiting()
    trainings = trainings_of(campaign, results_root())
    state = {
        "rounds": len(campaign.rounds),
        "labelled": campaign.labelled(),
        "waiting": waiting,
        "pool": len(pool),
        "not_preprocessed": new,
        "budget": campaign.budget,
        "exhausted": campaign.exhausted,
    }
    head = (
        f"{raw.name} {campaign.configuration} fold {campaign.fold}: {_count(len(campaign.rounds), 'round')}, "
        f"{len(campaign.labelled())} labelled, {len(waiting)} waiting for a label, {len(pool) + len(new)} left in the pool; "
        f"{campaign.settings.strategy}, budget {campaign.counted(campaign.budget)}."
    )
    newest = {one.fold: one for one in reversed(trainings)}
    unasked = campaign.unasked(raw.labelled) if folder_oracle else []
    unfinished = next((one for one in newest.values() if one.resumable), None)
    if running := running_trainings(campaign.folder):
        step = _while_training(running, waiting if folder_oracle else [], raw)
    elif waiting and folder_oracle:
        step = _with_waiting(campaign, raw, store, commands)
    elif waiting:
        why = f"The labels of {', '.join(waiting)} are there; the training takes them over."
        step = _train(campaign, commands, (why,), unfinished)
    elif unasked:
        why = (f"Labels that nobody asked for are in labelsTr and not ingested yet: {_short(unasked)}.",)
        step = NextStep("ingest", commands.ingest(), why)
    else:
        step = _with_labels(campaign, commands, trainings, unfinished, len(pool), new)
    if step.kind == "train" and withdrawn(workspace):  # the reason is among the changes by hand
        step = NextStep("preprocess", commands.preprocess(), step.why, state=step.state)
    # a running training may just be writing its checkpoint
    stopped = [] if running else [one for one in newest.values() if not (one.finished or one.resumable)]
    broken = [one.problem for one in stopped if one.problem and one.problem not in step.why]
    why = (head, *step.why, *broken, *changes_by_hand(workspace))
    answer = "\n".join(filter(None, [newest_answer(trainings, campaign), *forecast_sentences(campaign, trainings)]))
    return NextStep(step.kind, step.command, why, step.also, {**state, **step.state}, answer)


def _with_open_slices(workspace: Workspace, pool: list[str]) -> list[str]:
    """Where slices are asked for and no fresh scan is left, the scans with slices that may still be asked for; else the pool."""
    campaign = workspace.campaign
    if not (campaign.asks_for_slices and {*campaign.asked_slices(), *campaign.known_slices()}.issuperset(pool)):
        return pool
    from nnunet_active.query.slice_query import SliceQuery  # not above: it needs slow imports

    query = SliceQuery(campaign, workspace.store)
    return [case for case in pool if query.open_slices(case)]


def _size_of_select(campaign: Campaign, pool: int) -> int:
    """Number of cases or slices that the next ``select`` would ask for; 0 if nothing is left."""
    if not campaign.exhausted:
        size = campaign.budget_left()
    elif campaign.rounds:
        last = campaign.rounds[-1]
        size = sum(len(one.slices) for one in last.slices.values()) or len(last.requested)
    else:
        size = DEFAULT_SLICES if campaign.asks_for_slices else DEFAULT_SIZE
    return (size if pool else 0) if campaign.asks_for_slices else min(size, pool)


def _while_training(running: list[RunningTraining], waiting: list[str], raw: RawDataset) -> NextStep:
    why = [one.line() for one in running]
    if waiting:
        why.append(f"It waits for the labels of {', '.join(waiting)}: put them into {raw.folder / 'labelsTr'}.")
    return NextStep("wait", "", tuple(why), state={"running": [asdict(one) for one in running]})


def _with_waiting(campaign: Campaign, raw: RawDataset, store: CaseStore, commands: Commands) -> NextStep:
    # not above: reading label images needs slow imports
    from nnunet_active.rounds.labels_at_hand import returned_labels, waiting_lines, way_of_last_label

    returned = returned_labels(campaign, raw, store)
    state = {"returned": sorted(case for case, one in returned.items() if one.ready)}
    why = waiting_lines(returned)
    if state["returned"] or any(one.refused for one in returned.values()):
        return NextStep("ingest" if state["returned"] else "label", commands.ingest(), why, state=state)
    if any(one.where is None for one in returned.values()):
        also = (("if the labels come by another way", commands.ingest("--from", "FOLDER")),)
        return NextStep("annotate", commands.annotate(), why, also, state)
    training = commands.train(campaign.settings.trainer)
    train = (("to train with the labels that are there", training),) if not campaign.halting() else ()
    last = way_of_last_label(campaign)
    also = (
        *((("if they come to where the last one came", commands.ingest(*last)),) if last else ()),
        ("if the prediction of a case is right as it is", commands.ingest("--accept-unchanged", "CASE")),
        ("if nobody can label a case", commands.ingest("--decline", "CASE")),
        *train,
    )
    return NextStep("label", commands.ingest(), (*why, "Labels can be taken back one by one."), also, state)


def _with_labels(
    campaign: Campaign,
    commands: Commands,
    trainings: list[Training],
    unfinished: Training | None,
    pool: int,
    new: list[str],
) -> NextStep:
    size = _size_of_select(campaign, pool + len(new))
    select = commands.select(size) if size else ""
    if unfinished is not None:
        return _train(campaign, commands, (f"{_names(unfinished)} was stopped before its end.",), unfinished)
    if all(one.problem for one in trainings) and (not campaign.rounds or not campaign.labelled()):
        return _first_round(campaign, commands, select)
    knowing = [
        one for one in trainings if one.finished and not one.problem and not missed_labels(campaign, one).missing
    ]
    untrained = {}
    for fold in covered_folds(campaign):
        if not any(one.fold == fold for one in knowing):
            of_fold = [one for one in trainings if one.fold == fold]
            verdict = next((missed_labels(campaign, one) for one in of_fold if one.finished), None)
            missing = verdict.missing if verdict else tuple(labels_to_train_on(campaign, fold))
            note = (verdict.note,) if verdict and verdict.note else ()
            why = f"No model of fold {fold} was trained on {_short(missing)} yet."
            untrained[fold] = _train(
                campaign, commands, (why, *note), None, fold, next(iter([*of_fold, *knowing]), None)
            )
    # between rounds, training the campaign's own fold is enough; at the end, every fold of a cross-validation is trained
    wanted = covered_folds(campaign)[: None if campaign.exhausted or not pool else 1]
    for fold in wanted:
        if fold in untrained:
            return untrained[fold]
    best = knowing[0]
    notes = filter(None, [missed_labels(campaign, best).note, *(one.problem for one in trainings)])
    trained = (f"{_names(best)} knows all {len(campaign.labelled())} labels.", *notes)
    use = "to use the model, which predicts like the source model" if best.is_source else "to use the model"
    known = {one.fold for one in knowing if one.trainer == best.trainer}
    predict = (use, commands.predict(best.trainer, [fold for fold in covered_folds(campaign) if fold in known]))
    open_ended = campaign.is_open_ended and (pool or new)
    if campaign.exhausted and open_ended:
        why = "You can ask for further cases, or stop here."
        return NextStep("select", select, (*trained, why), (predict,))
    if campaign.exhausted:
        also = (predict, *((("to go on beyond the budget", select),) if select else ()))
        return NextStep(
            "done", "", (*trained, f"The budget of {campaign.counted(campaign.budget, 'cases')} is spent."), also
        )
    if pool and campaign.is_left_to_training:
        why = f"The next training asks for {campaign.counted(campaign.budget_left())} more by itself."
        step = _train(campaign, commands, (*trained, why), None, earlier=best)
        return replace(step, also=(*step.also, ("to ask now", select), predict))
    if pool:
        others = tuple((f"to train fold {fold} as well", step.command) for fold, step in untrained.items())
        left = campaign.counted(campaign.budget_left())
        why = f"{left} more can be asked for within the budget of {campaign.budget}."
        return NextStep("select", select, (*trained, why), (*others, predict))
    if new:
        why = f"{len(new)} scans are not preprocessed, they are new or were set aside: {_short(new)}."
        return NextStep("preprocess", commands.preprocess(), (*trained, why), (predict,))
    return NextStep("done", "", (*trained, "No unlabelled case is left in the pool."), (predict,))


def _first_round(campaign: Campaign, commands: Commands, select: str) -> NextStep:
    training = commands.train(campaign.settings.trainer)
    if campaign.asks_a_person and campaign.is_open_ended and select:
        return NextStep(
            "select", select, ("No case has been asked for yet.",), (("to let the training ask", training),)
        )
    also = (("to ask before any training", select),) if select else ()
    step = _train(
        campaign, commands, ("No case has been asked for yet; the training asks before its first epoch.",), None
    )
    return NextStep(step.kind, step.command, step.why, (*step.also, *also))


def _train(
    campaign: Campaign,
    commands: Commands,
    why: tuple[str, ...],
    unfinished: Training | None,
    fold: str | None = None,
    earlier: Training | None = None,
) -> NextStep:
    chosen = unfinished or earlier
    trainer = chosen.trainer if chosen else campaign.settings.trainer
    why = why if chosen else (*why, *why_trainer(trainer), *FineTuning.of(campaign.settings.fine_tuning).cost())
    command = commands.train(trainer, unfinished.fold if unfinished else fold, go_on=unfinished is not None)
    if unfinished is not None and unfinished.labelled is None:
        why = (
            *why,
            f"With --c nnU-Net unpickles {unfinished.checkpoint}, which can run code stored in it; go on with your own only.",
        )
    if not trainer.startswith("nnUNetTrainerActive") and chosen and chosen.labelled is None and not chosen.problem:
        return NextStep("train", command, why)
    also = () if is_listed() else (("once per shell, before that command", export_line()),)
    return NextStep("train", command, why, also)


def _names(training: Training) -> str:
    return f"The training of fold {training.fold} with {training.trainer}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _short(cases: tuple[str, ...] | list[str], most: int = 8) -> str:
    return ", ".join(cases[:most]) + (f" and {len(cases) - most} more" if len(cases) > most else "")
