"""Preprocess what is missing or outdated: labelled cases for stock nnU-Net, unlabelled ones for the pool.

Stock preprocessing first deletes the whole folder and needs a label for every image. Here every case is handled on its
own: up-to-date cases stay, whoever made them; a bad case is named and the others go on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from tqdm import tqdm

from nnunet_active.data.case_writer import drop_pool_copy, is_current, write_case
from nnunet_active.data.cases import CaseStore, is_whole
from nnunet_active.data.cases_set_aside import remember_set_aside
from nnunet_active.data.dataset_json import allowed_label_values, changed_description
from nnunet_active.data.image_checks import check_image
from nnunet_active.data.image_size import check_size
from nnunet_active.data.label_intake import (
    ReadyLabel,
    check_raw_label,
    has_ground_truth,
    new_ground_truth,
    write_ground_truth,
)
from nnunet_active.data.plans import complete_plans
from nnunet_active.data.raw_dataset import RawCase, RawDataset
from nnunet_active.util.atomic import sweep
from nnunet_active.util.errors import ActiveError, BadCase
from nnunet_active.util.lock import wait_for
from nnunet_active.util.progress import bar_is_shown

_FEW_CASES = 2  # starting a process and importing nnU-Net takes longer than this many cases


@dataclass
class PreprocessingReport:
    """What a run did.

    Attributes:
        done: cases preprocessed now.
        skipped: cases that were up to date.
        problems: case -> sentence: set aside, or (if the label was refused) kept as an unlabelled case.
        warnings: case -> sentence: used, but worth a look.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    case: RawCase
    store: CaseStore
    dataset_json: dict


@dataclass(frozen=True)
class _Outcome:
    written: bool = False
    problem: str | None = None
    warnings: tuple[str, ...] = ()


def preprocess_dataset(
    raw: RawDataset, store: CaseStore, dataset_json: dict, processes: int = 2, progress: bool = True
) -> PreprocessingReport:
    """Bring the store up to date with the raw data set.

    A case with a label goes into the stock folder, one without into the pool folder, with the same arrays as from stock
    preprocessing. When its label has arrived, a case moves from the pool to the stock folder. A stored copy is made
    anew if its image or label file changed, or the part of the plans that it depends on; a copy by stock nnU-Net, which
    leaves no record, if it is older than these files. Labels are also copied to ``gt_segmentations``, as in stock
    preprocessing. Nothing else is ever deleted: if the user withdrew the label of a case, the case is reported and
    stays.

    Args:
        raw: the data set with its pool folders.
        store: where the cases go; it knows the plans and the configuration.
        dataset_json: for the labels; nnU-Net uses the one beside the plans.
        processes: how many cases at once; 1 works in this process.
        progress: whether to show a bar.

    Returns:
        The report, including ``raw.problems`` and ``raw.warnings``. If another process works on the same data set, this
        call waits for it.
    """
    store.check_channels(raw.channel_names)
    allowed_label_values(dataset_json)  # an unusable dataset.json is one error, not one per case
    report = PreprocessingReport(problems=dict(raw.problems), warnings=dict(raw.warnings))
    if changed := changed_description(raw.dataset_json, dataset_json):
        report.warnings["dataset.json"] = " ".join([*filter(None, [report.warnings.get("dataset.json")]), changed])
    with _only_one_writer(store):
        complete_plans(store.dataset_folder, store.plans_manager.plans, raw.dataset_json)
        sweep(*(folder.resolve().parent for folder in (store.folder, store.pool_folder)))  # left over from killed runs
        todo = [
            _Task(case, store, dataset_json)
            for case in raw.cases.values()
            if not _is_settled_or_named(case, store, dataset_json, report)
        ]
        outcomes = run_all(_preprocess, {task.case.identifier: task for task in todo}, processes, progress)
        for identifier, outcome in outcomes:
            if outcome.written:
                report.done.append(identifier)
            if outcome.problem:
                report.problems[identifier] = outcome.problem
            if outcome.warnings:
                report.warnings[identifier] = " ".join(outcome.warnings)
        remember_set_aside(store, raw, report.problems)
    report.done.sort()
    return report


def preprocess_case(case: RawCase, store: CaseStore, dataset_json: dict) -> list[str]:
    """Check and store one case, e.g. one whose label has just arrived; returns warnings.

    With a label the case goes to the stock folder (and leaves the pool), without one to the pool folder. Nothing is
    done if that copy is up to date.

    Raises:
        BadCase: the image or the label is refused; what was stored before stays as it was.
    """
    with _only_one_writer(store):
        if _is_settled(case, store, dataset_json, PreprocessingReport()):
            return []
        # if the pool copy is current, the image has been checked in its present state
        known = case.label is not None and is_current(case, False, store, dataset_json)
        geometry, warnings = (None, []) if known else _checked_image(case, store)
        ready = None
        if case.label is not None:
            ready = check_raw_label(case, store, dataset_json, geometry)
            warnings += ready.warnings
        _write(case, ready, store, dataset_json)
    return warnings


def run_all(
    function: Callable[[_Task], _Outcome], tasks: dict[str, _Task], processes: int, progress: bool
) -> Iterator[tuple[str, _Outcome]]:
    """Apply ``function`` to every task, in separate processes if that pays; yields (case, outcome) as they finish.

    If a process dies (out of memory, a crash in a library), the others of its pool die with it. A single process then
    does the unfinished tasks, so that we learn which case kills its process and the others go on.
    """
    with tqdm(total=len(tasks), desc="Preprocessing cases", disable=not bar_is_shown(progress and bool(tasks))) as bar:
        if processes <= 1 or len(tasks) <= _FEW_CASES:
            for identifier, task in tasks.items():
                yield identifier, function(task)
                bar.update()
            return
        unfinished = dict(tasks)
        workers = processes
        while unfinished:
            for identifier, outcome in _run_in_pool(function, unfinished, workers):
                del unfinished[identifier]
                yield identifier, outcome
                bar.update()
            if unfinished and workers == 1:
                identifier = next(iter(unfinished))  # a single process works in order, so the first case killed it
                del unfinished[identifier]
                died = f"Case {identifier}: the process that worked on it died, perhaps for lack of memory."
                yield identifier, _Outcome(problem=died)
                bar.update()
            workers = 1


def _run_in_pool(
    function: Callable[[_Task], _Outcome], tasks: dict[str, _Task], processes: int
) -> Iterator[tuple[str, _Outcome]]:
    # spawn, as in nnU-Net: forking a process that has used torch can hang
    context = multiprocessing.get_context("spawn")
    tasks = dict(tasks)  # the caller removes finished tasks
    pool = ProcessPoolExecutor(min(processes, len(tasks)), context, _end_with_the_parent)
    futures: dict[Future, str] = {}
    try:
        with _interrupts_ignored():
            for identifier, task in tasks.items():
                futures[pool.submit(function, task)] = identifier
        for future in as_completed(futures):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                continue
            yield futures[future], outcome
    except BrokenProcessPool:  # while tasks were still being handed over
        return
    finally:
        pool.shutdown(cancel_futures=True)  # cases being written are finished, those not begun are dropped


def _end_with_the_parent() -> None:
    """End a pool's processes with their parent: after a kill of the command they would otherwise idle for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started here ignore Ctrl-C: they finish their present case, and only the command itself reports."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _is_settled(case: RawCase, store: CaseStore, dataset_json: dict, report: PreprocessingReport) -> bool:
    """Whether a case needs no more computing; completes what a killed run left undone."""
    in_stock_folder = is_whole(store.folder, case.identifier, with_label=True)
    if case.label is None and in_stock_folder:
        report.warnings[case.identifier] = (
            f"Case {case.identifier} has no label file any more, but its preprocessed copy in {store.folder} has one and "
            f"is still used for training; put the label back, or, to do without it, delete the files {case.identifier}.* and "
            f"{case.identifier}_seg.* there, preprocess again, and begin a new campaign (init --restart) where one counts it already."
        )
    elif not is_current(case, case.label is not None, store, dataset_json):
        return False
    elif case.label is not None:
        drop_pool_copy(store, case.identifier)
        if not has_ground_truth(case, store, dataset_json):
            write_ground_truth(case, check_raw_label(case, store, dataset_json, None), store, dataset_json)
    report.skipped.append(case.identifier)
    return True


def _is_settled_or_named(case: RawCase, store: CaseStore, dataset_json: dict, report: PreprocessingReport) -> bool:
    """The same for one of many: if a label is refused now although its case was preprocessed, name it and let the others go on."""
    try:
        return _is_settled(case, store, dataset_json, report)
    except Exception as error:
        report.problems[case.identifier] = f"{_sentence(case, error)} Its earlier preprocessed copy stays in use."
        return True


def _preprocess(task: _Task) -> _Outcome:
    """Take one case from check to store. Never raises: the outcome holds the sentence about a bad case."""
    case, store, dataset_json = task.case, task.store, task.dataset_json
    try:
        geometry, warnings = _checked_image(case, store)
        problem = None
        if case.label is not None:
            try:
                ready = check_raw_label(case, store, dataset_json, geometry)
                _write(case, ready, store, dataset_json)
                return _Outcome(written=True, warnings=(*warnings, *ready.warnings))
            except BadCase as error:
                if is_whole(store.folder, case.identifier, with_label=True):
                    return _Outcome(problem=f"{error} Its earlier preprocessed copy stays in use.")
                # the image is good, so the case stays in the pool until somebody corrects the label
                problem = f"{error} Until then the case counts as unlabelled."
                if is_current(case, False, store, dataset_json):
                    return _Outcome(problem=problem)
        _write(case, None, store, dataset_json)
        return _Outcome(written=True, problem=problem, warnings=tuple(warnings))
    except Exception as error:  # whatever happens, the other cases go on
        return _Outcome(problem=_sentence(case, error))


def _sentence(case: RawCase, error: Exception) -> str:
    if isinstance(error, ActiveError):
        return str(error)
    detail = " ".join(str(error).split())
    return f"Case {case.identifier} cannot be preprocessed ({type(error).__name__}: {detail})."


def _checked_image(case: RawCase, store: CaseStore) -> tuple:
    reader = store.plans_manager.image_reader_writer_class
    channels = len(store.configuration_manager.normalization_schemes)
    checked = check_image(case.identifier, case.images, reader, channels)
    check_size(case, checked.geometry, store)
    return checked.geometry, list(checked.warnings)


def _write(case: RawCase, ready: ReadyLabel | None, store: CaseStore, dataset_json: dict) -> None:
    """Write into the stock folder with a label, into the pool without one (``ready`` is None)."""
    # before the case appears, because whoever sees it may validate on it
    with new_ground_truth(case, ready, store, dataset_json) as label:
        write_case(case, ready is not None, store, dataset_json, label)


def _only_one_writer(store: CaseStore) -> AbstractContextManager[None]:
    said = f"Another process is preprocessing {store.dataset_folder.name}; waiting until it has finished."
    return wait_for(store.dataset_folder / "active" / "preprocess.lock", lambda: tqdm.write(said))
