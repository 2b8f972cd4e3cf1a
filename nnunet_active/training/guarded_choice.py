r"""The recipe ``guarded``: how far the weights that predict may leave the source. A gate stays closed until labels show a gain.

The weights that predict are w0 + alpha (v - w0) (:mod:`~nnunet_active.training.adaptation`). Cases that a network was not trained on
judge each alpha:

* held-out cases;
* each new label, before the network is trained on it (prequential evaluation, Dawid 1984);
* cases that a cross-fit network left out (:mod:`~nnunet_active.training.cross_fit`).

A case counts once, in this order: the later network is nearer to the one that predicts. Cross-fit networks saw fewer labels for half as
long, so their cases stop counting once `ENOUGH` others judge. D(alpha, i) is the Dice of case i, and w_i how much of the pool it stands
for (:mod:`~nnunet_active.training.case_weights`; 1 where it was drawn like any other). Then

    d_i(alpha) = D(alpha, i) - D(0, i),        m(alpha) = \sum_i w_i d_i(alpha) / (\sum_i w_i + 1)

is the mean gain, shrunk as if one more case had shown none. The rule:

* If m(`OPEN`) is above `MARGIN`, alpha is `OPEN`.
* Else alpha is the floor: `FLOOR`, or `FLOOR_OF_MANY` from `MANY` labelled cases on (with slices, a scan with labelled slices is one).
* If the network also learns from unlabelled cases (``unlabelled=mix``), and the strategy draws from the pool, then from `MANY_MIXED`
  labelled cases on, the floor is `OPEN`, the gate opens to `WIDE_OPEN`, the trained weights themselves, and the rest of this rule does
  not depend on how the cases came.
* If even the floor harms (m below `-HARM`), alpha goes one step down: from `FLOOR` to 0, the source network, from `FLOOR_OF_MANY` to
  `FLOOR`, and from `OPEN` to `FLOOR_OF_MANY`. Zero would be too strict there, since the networks that judge have seen fewer cases.

Without unlabelled cases, the rule is stricter where cases came in one by one (:func:`came_one_by_one`) and fewer than `MANY` are
labelled. Few cases judge then, and the first of them judge networks of one or two scans. One large gain at `OPEN` would outweigh the
others, but small alphas expose it. So the gate opens only if m(`FLOOR`) is above `MARGIN`, too, and `FLOOR` itself needs a gain of
`EARNED`; else alpha is 0.

With one label nothing can judge, and alpha is `FLOOR`. The alpha whose predictions agree best with their mean over all alphas (EnsV,
NeurIPS 2024) was always 0.5 there, and did more harm (``one_label.csv``).

The answer holds for the pool only if the requested cases stand for it; a strategy that asks for the largest tumours misleads the gate.

Source: our own rule. Its numbers come from ``benchmarks/results/interpolation_*.csv`` and ``gate.csv`` (see ``docs/measured.md``):

* Floors: with slices of ten scans or more, alpha 0.5 was never worse than the source (40 networks). With three to five whole scans, it
  lost up to 0.057.
* `MANY_MIXED`: chosen on networks of two and three whole scans that came one by one, on four pairs, with the unlabelled pool
  (``one_by_one_mixed.csv``, seeds 0 to 4). At 0.75, 2 of 35 lost more than 0.005 against their source, at most 0.009; the mean gain was
  0.01 on glioma and hippocampus, and 0.11 and 0.22 on the two kinds of hearts. Four trained afterwards (seed 6) gained 0.007 to 0.030.
  Without hippocampus, one would have been chosen instead of two: 3 of its 28 networks would be worse. Without any other pair, two.
  With one scan, 0.75 lost up to 0.019, and 0.25 at most 0.0003. In a laboratory of small networks (``benchmarks/mixing.py``), three
  scans at 0.75 still lost up to 0.054.
  With three scans that mmActS asked for on glioma, 0.75 lost 0.004 to 0.029 even with the pool, and 0.25 gained 0.005 to 0.012.
* Earlier labels hardly tell these networks apart, since those that they judge have learned from fewer scans. On glioma, they spoke for
  a step down in 7 of 12 networks of two or three single labels, which cost 0.002 on average.
* `OPEN`: without the unlabelled pool, alpha 1 was never ahead of 0.75 by more than 0.010, and up to 0.018 behind.
* `WIDE_OPEN`: in the networks of `MANY_MIXED`, 11 of 17 on both kinds of hearts had an m(0.75) above `MARGIN`, none of 22 on glioma
  and hippocampus. Alpha 1 gained 0.010 to 0.015 on hearts there, and between -0.015 and +0.004 on diseased hearts.
  Trained afterwards, with two rounds of three: +0.017 on hearts, -0.009 on one of two of glioma (both above their source).
* With three whole scans of glioma, the gate went back to the source in four of five runs; 0.25 would have gained 0.006 to 0.024 in
  three of these and lost 0.007 in one.
* `EARNED`: of 0, 0.01, 0.02 and 0.025, the largest that cost nothing in six runs on hearts. In four more runs, the stricter rule cost
  0.08 to 0.09 Dice with two or three single labels. In return, 4 of 50 networks on glioma are worse than their source, not 14.
* Any such rule that spares glioma costs hearts something: the best one fitted to these very networks stays 0.048 and 0.042 behind 0.75
  with two and three single labels (``benchmarks/single_label_rules.py``).
* `ENOUGH`, for cross-fit cases: in ten networks of two rounds of three scans, they held the gate back (diseased hearts 0.686, without
  them 0.714), and no network was worse than its source either way.
* `ENOUGH`, for the stricter rule: chosen on four networks of diseased hearts (0.708, with the stricter rule 0.695), judged on four of
  glioma (0.705, 0.690) and four of hearts (equal). None was worse than its source.
* The stricter rule stays where some of two or three judging cases are cross-fit: without it, a quarter of the stored glioma networks
  would be worse than their source; with it, one in thirty.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from nnunet_active.campaign.fine_tuning import (
    DRAWS_BY_CHANCE,
    GUARDED,
    MANY_MIXED,
    STANDS_FOR_THE_POOL,
    UNTIL_CHOSEN,
)
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.nnunet.window import Window
from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.alpha_choice import AlphaChoice, model_at
from nnunet_active.training.case_weights import case_weights
from nnunet_active.training.comparison_table import CROSS_FIT, HELD_OUT, PREQUENTIAL, SOURCE, dice_by_case
from nnunet_active.training.earlier_training import EarlierTraining
from nnunet_active.training.session import QuerySession
from nnunet_active.training.source_comparison import Comparison, Measured
from nnunet_active.training.source_watch import judging

FLOOR, FLOOR_OF_MANY, OPEN, WIDE_OPEN = UNTIL_CHOSEN[GUARDED], 0.5, 0.75, 1.0
MANY = 8
MARGIN = 0.05
HARM = 0.01
EARNED = 0.02
ENOUGH = 3
"""Cases that judge without cross-fitting from which on cross-fit cases are left out."""
_STEP_DOWN = {FLOOR: 0.0, FLOOR_OF_MANY: FLOOR, OPEN: FLOOR_OF_MANY}
_ALPHAS = (FLOOR, FLOOR_OF_MANY, OPEN)
_MODELS = [SOURCE, *map(model_at, _ALPHAS)]


def shrunk_gains(dice: pd.DataFrame, weights: pd.Series | None = None) -> pd.Series:
    """m(alpha) of the formula above.

    Args:
        dice: a row per case, a column per alpha; the column 0 is the source network.
        weights: w, one for each row of ``dice``, with its index; None: all 1.

    >>> shrunk_gains(pd.DataFrame({0.0: [0.5, 0.7], 0.25: [0.8, 0.7]})).round(2).to_dict()
    {0.0: 0.0, 0.25: 0.1}
    """
    weights = pd.Series(1.0, dice.index) if weights is None else weights
    return dice.rsub(dice[0.0], axis=0).mul(-1).mul(weights, axis=0).sum() / (weights.sum() + 1)


def may_go_far(mixed: bool, strategy: str) -> bool:
    """Whether unlabelled cases let the gate open from `MANY_MIXED` labelled ones on: where they are learned from (``mixed``), and the
    labelled ones are drawn from the same pool."""
    return mixed and strategy in STANDS_FOR_THE_POOL


def floor_of(labelled: int, mixed: bool = False) -> float:
    """The alpha with the gate closed, after training on so many cases; ``mixed``: see :func:`may_go_far`."""
    if mixed and labelled >= MANY_MIXED:
        return OPEN
    return FLOOR_OF_MANY if labelled >= MANY else FLOOR


def gate(
    dice: pd.DataFrame,
    labelled: int,
    weights: pd.Series | None = None,
    one_by_one: bool = True,
    mixed: bool = False,
) -> float:
    """The alpha that the rule above takes.

    Args:
        dice: a row per case that judges, a column per alpha; the column 0 is the source network.
        labelled: cases that the network is trained on.
        weights: see :func:`shrunk_gains`.
        one_by_one: see :func:`came_one_by_one`.
        mixed: see :func:`may_go_far`.

    >>> gate(pd.DataFrame({0.0: [0.5] * 3, 0.25: [0.6] * 3, 0.5: [0.7] * 3, 0.75: [0.8] * 3}), labelled=4)
    0.75
    """
    gains, floor = shrunk_gains(dice, weights), floor_of(labelled, mixed)
    strict = one_by_one and not mixed and len(dice) > 0 and floor == FLOOR
    if gains[OPEN] > MARGIN and (gains[FLOOR] > MARGIN or not strict):
        return WIDE_OPEN if floor == OPEN else OPEN
    return floor if gains[floor] >= (EARNED if strict else -HARM) else _STEP_DOWN[floor]


def counting_evidence(kinds: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What counts of a table per way of judging, a row per case: without the cross-fit cases where `ENOUGH` others judge."""
    others = sum(len(table) for kind, table in kinds.items() if kind != CROSS_FIT)
    if CROSS_FIT not in kinds or others < ENOUGH:
        return kinds
    return {**kinds, CROSS_FIT: kinds[CROSS_FIT].iloc[:0]}


def came_one_by_one(kinds: dict[str, pd.DataFrame], labelled: int) -> bool:
    """Whether fewer than `ENOUGH` cases judge without cross-fitting (but some), or the first of them a network of fewer cases.

    Args:
        kinds: see :func:`counting_evidence`.
        labelled: cases that the network is trained on.
    """
    others = sum(len(table) for kind, table in kinds.items() if kind != CROSS_FIT)
    return others > 0 and min(others, labelled - len(kinds.get(PREQUENTIAL, ()))) < ENOUGH


class GuardedChoice(AlphaChoice):
    """Sets the interpolation of a training by the rule above; see :class:`~nnunet_active.training.alpha_choice.AlphaChoice`."""

    def __init__(
        self, session: QuerySession, adaptation: Adaptation, window: Callable[[], Window], comparison: Comparison
    ) -> None:
        super().__init__(session, adaptation, window, comparison)
        self.trained_on: set[str] = set()
        """Cases that the network was trained on; those of a continued training are in its checkpoint."""
        self.source = weights_digest(adaptation.source)
        self.mixed = False
        """Whether the training also learns from unlabelled cases now."""

    def begin(self, epoch: int, earlier_one: Callable[[], EarlierTraining | None]) -> None:
        """At the start of a training: say how it begins, and let the labels since an earlier training judge that one's network."""
        if epoch > 0:
            return
        held_out = ", and held-out cases" if self.session.held_out(0) else ""
        self.session.log(
            f"The gate is closed: the weights that predict stay {FLOOR:.0%} of the way from the source to the fine-tuned ones "
            f"({FLOOR_OF_MANY:.0%} from {MANY} labelled cases on; {OPEN:.0%} from {MANY_MIXED} on with unlabelled=mix and requests "
            f"drawn from the pool). It opens to {OPEN:.0%} (to {WIDE_OPEN:.0%} from there) once cases that the network has not seen "
            f"gain more than {MARGIN} Dice at {OPEN:.0%}: the new labels of each later round, cases that cross-fitting leaves out, if "
            f"it is on{held_out}."
        )
        asked = self.session.campaign.settings.strategy
        if asked in DRAWS_BY_CHANCE:
            self.session.log(
                f"{asked} draws cases from the pool and records each probability; the less likely a case was, the more it counts."
            )
        elif asked not in STANDS_FOR_THE_POOL:
            self.session.log(
                f"WARNING: cases that {asked} asks for may not stand for the pool, and then mislead the gate; "
                f"--strategy {STANDS_FOR_THE_POOL[0]} goes with this recipe."
            )
        earlier = earlier_one()
        if earlier is not None:
            new = judging(self.session, (case for case in self.session.labelled(0) if case not in earlier.labelled))
            self.measure(0, new, PREQUENTIAL, earlier)

    def new_labels(self, epoch: int) -> None:
        """Measure every alpha on the cases that are trained on from ``epoch`` on, and were not before."""
        new = sorted(set(self.session.labelled(epoch)) - self.trained_on)
        cases = judging(self.session, new)
        if epoch > 0:
            self.measure(epoch, cases, PREQUENTIAL)
        self.trained_on.update(new)

    def choose(self, epoch: int) -> None:
        """Take the alpha that the cases so far speak for; see :meth:`AlphaChoice.choose`."""
        if epoch == 0:
            return
        self.measure(epoch, judging(self.session, self.session.held_out(epoch)), HELD_OUT)
        kinds = counting_evidence(self.evidence(epoch))
        dice = pd.concat(kinds.values())
        weights = self.weights(list(dice.index))
        labelled = self.session.trained_on(epoch)[1]
        mixed = may_go_far(self.mixed, self.session.campaign.settings.strategy)
        chosen = gate(dice, labelled, weights, came_one_by_one(kinds, labelled), mixed)
        self.adaptation.interpolation = chosen
        gains = shrunk_gains(dice, weights).drop(0.0)
        told = ", ".join(f"{alpha:g}: {gain:+.4f}" for alpha, gain in gains.items())
        whose = "their" if len(kinds[CROSS_FIT]) else "the"
        cases = "1 case" if len(dice) == 1 else f"{len(dice)} cases"
        why = f"mean gain in Dice on {cases} that {whose} network had not seen, by alpha: {told}"
        if not len(dice):
            why = "the network knows every labelled case"
        if (weights != 1).any():
            told = ", ".join(f"{case} {weight:.2f}" for case, weight in weights.items())
            why += f" (weighted by how they were drawn: {told})"
        said = f"Gate: {why}. From here on, alpha is {chosen:g}."
        by_case = [
            {
                "case": case,
                "kind": kind,
                "weight": float(weights[case]),
                **{f"{alpha:g}": value for alpha, value in row.items()},
            }
            for kind, table in kinds.items()
            for case, row in table.iterrows()
        ]
        gained = {f"{a:g}": g for a, g in gains.items()}
        self.note(epoch, said, chosen=chosen, cases=len(dice), gains=gained, by_case=by_case)

    def weights(self, cases: list[str]) -> pd.Series:
        """How much each case counts; see :mod:`~nnunet_active.training.case_weights`."""
        session = self.session
        return session.ranks.decide(lambda: case_weights(session.campaign.rounds, cases, session.log))

    def measure(self, epoch: int, cases: list[str], kind: str, earlier: EarlierTraining | None = None) -> None:
        """Every alpha of the network of now, of an earlier training's or of a cross-fit one."""
        if not cases:
            return
        with self.adaptation.replaced(self.adaptation.source):
            self.comparison.measure(self.window(), Measured(SOURCE, self.source), cases, kind)
        self.measure_alphas(epoch, cases, kind, _ALPHAS, earlier)

    def evidence(self, epoch: int) -> dict[str, pd.DataFrame]:
        """A row per case, a column per alpha, by how a case was judged: held-out ones by the network of now, new ones of earlier
        epochs, and those that a cross-fit network left out. No case is there twice."""
        rows = self.comparison.of_now()
        of_source, kind = rows["model"] == SOURCE, rows["kind"]
        found, known = {}, set()
        for name, counts in (
            (HELD_OUT, of_source | ((rows["epoch"] == epoch) & (rows["round"] == self.session.trained_on(epoch)[0]))),
            # a run that was killed and goes on has measured the cases of this epoch already, and chose without them
            (PREQUENTIAL, of_source | (rows["epoch"] < epoch)),
            (CROSS_FIT, kind == CROSS_FIT),
        ):
            table = dice_by_case(rows[(kind == name) & counts], _MODELS).set_axis([0.0, *_ALPHAS], axis=1)
            found[name] = table[~table.index.isin(known)]
            known.update(table.index)
        return found

    def knows(self, cases: list[str]) -> bool:
        """Whether cross-fit networks have judged all of these cases."""
        rows = self.comparison.table
        models = rows[rows["kind"] == CROSS_FIT].groupby("case")["model"].agg(set).to_dict()
        return all(models.get(case, set()) >= set(_MODELS) for case in cases)

    def judged_without_cross_fit(self) -> set[str]:
        """Cases that are held out, and labelled ones that the network of an earlier training has judged."""
        rows = self.comparison.table
        new = set(rows[(rows["kind"] == PREQUENTIAL) & (rows["model"] == _MODELS[-1])]["case"])
        return {*judging(self.session, self.session.held_out(0)), *(new & set(self.session.labelled(0)))}
