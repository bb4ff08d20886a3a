"""HopelessPruner: `stopping` as Optuna asks for it. Imports Optuna, so it is imported when a sweep begins.

Intermediate values are mean training losses, their steps thousandths of a trial. This module does not know the rule.
"""

from __future__ import annotations

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.curve import Curve
from bloomery.training.sweep.stopping import Ended, hopeless

PARTS = 1000


class HopelessPruner(BasePruner):
    """Also for studies of one's own: report `mean loss` at `round(share * PARTS)`; direction minimize."""

    def __init__(self, config: SweepConfig | None = None) -> None:
        self.config = config or SweepConfig()
        self.reason = ""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should be stopped; `reason` then says why."""
        ended = [
            Ended(curve_of(other), float(other.value))
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if other.value is not None and other.intermediate_values
        ]
        self.reason = hopeless(curve_of(trial), ended, self.config)
        return bool(self.reason)


def curve_of(*trials: FrozenTrial) -> Curve:
    """What a trial has reported, or several that are parts of one."""
    reported = {step: loss for trial in trials for step, loss in trial.intermediate_values.items()}
    return Curve.of([(step / PARTS, loss) for step, loss in reported.items()])
