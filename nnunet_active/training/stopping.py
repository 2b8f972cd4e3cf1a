"""How a training ends early: with one sentence for a user's mistake, or with a request for labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.training.checkpoints import FINAL
from nnunet_active.training.loaders import finish_loaders
from nnunet_active.util.errors import ActiveError, CampaignError
from nnunet_active.util.ranks import all_are_leaving
from nnunet_active.util.sentences import one_sentence, show_everything, writable

if TYPE_CHECKING:
    from nnunet_active.training.mixed_training import MixedTraining


class StoppingMixin:
    """Mixin to put before an nnU-Net trainer class that has a ``session``."""

    can_go_on: bool
    mixing: MixedTraining | None

    def run_training(self) -> None:
        """Like the stock method, but if a stored case cannot be read, say so: nnU-Net's loaders only say that they died."""
        try:
            super().run_training()
        except Exception as error:
            damaged = self._damaged_case()
            if damaged is None:
                raise
            with self.one_sentence():
                raise damaged from error

    def _damaged_case(self) -> ActiveError | None:
        """The error of the first case of this training that cannot be read; None if all can."""
        session = self.session
        if session is None:
            return None
        try:
            for case in (*session.labelled(self.current_epoch), *session.held_out(self.current_epoch)):
                session.store.load_image(case)
                read_label_map(session.known_slices.folder, case)
            for case in self.mixing.cases if self.mixing is not None else ():
                session.store.load_image(case)
        except ActiveError as error:
            return error
        return None

    def _stop_for_labels(self, waiting: list[str]) -> None:
        campaign, workspace = self.session.campaign, self.session.workspace
        commands = replace(workspace.commands, device=self.device.type)
        self.print_to_log_file(
            f"\nPlease label: {', '.join(waiting)}\n"
            f"The worklist is {campaign.rounds[-1].folder / 'worklist.csv'}. A hand-off folder is made by\n"
            f"    {commands.annotate()}\n"
            f"Put each label into labelsTr of {workspace.dataset} (CASE{self.dataset_json['file_ending']}), or take it back with\n"
            f"    {commands.ingest()}\n"
            f"Then {'go on' if self.can_go_on else 'train'} with\n"
            f"    {commands.train(type(self).__name__, workspace.fold, go_on=self.can_go_on)}\n",
            add_timestamp=False,
        )
        self._leave()
        raise SystemExit(0)

    @property
    def has_ended(self) -> bool:
        """Whether a finished training is being continued (``--c``)."""
        return self.current_epoch >= self.num_epochs and (Path(self.output_folder) / FINAL).is_file()

    def _refuse_nothing(self) -> NoReturn:
        with self.one_sentence():
            raise CampaignError("No case of this campaign is labelled, so there is nothing to train on or to validate.")

    def _say_that_it_has_ended(self) -> None:
        session = self.session
        self.print_to_log_file(
            f"This training has ended: {self.num_epochs} of {self.num_epochs} epochs are done, so that --c trains nothing more; only "
            f"its validation follows."
        )
        there = {*session.labelled(), *session.unasked()}
        if new := sorted(there - set(self.trained_on) - set(session.held_out())):
            self.print_to_log_file(
                f"WARNING: labelled since, and not trained on: {', '.join(new)}. A new training takes them: the same "
                f"command without --c."
            )

    def _leave(self) -> None:
        """Close everything of ours that would keep the process or the campaign from ending."""
        finish_loaders(self)
        if self.session is not None:
            self.session.end()
        all_are_leaving()

    @contextmanager
    def one_sentence(self) -> Iterator[None]:
        """End the stock command with one sentence and exit code 2 at a user's mistake, without a traceback.

        If only one rank fails, that rank ends, and the launcher ends the others, as for any process that dies.
        """
        try:
            yield
        except Exception as error:
            sentence, code = one_sentence(error)
            self.print_to_log_file(f"\n{sentence}\n", add_timestamp=False)
            self._leave()
            raise SystemExit(code) from None

    def print_to_log_file(self, *args: Any, **how: Any) -> None:
        """Like the stock method, which alone would fail on characters that the terminal or the log file cannot encode."""
        show_everything()
        super().print_to_log_file(*map(writable, args), **how)
