"""The pruner is the rule as Optuna asks it."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.training.sweep import SweepConfig

optuna = pytest.importorskip("optuna")


def test_optuna_prunes_the_hopeless_and_lets_the_first_and_the_best_end():
    from bloomery.training.sweep.pruner import PARTS, HopelessPruner

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    floors = [2.0, 3.0, 1.5, 2.6]
    shares = np.arange(1, 51) / 50

    def objective(trial):
        floor = floors[trial.number]
        for share in shares:
            trial.report(floor + 0.3 * share**-0.5, round(share * PARTS))
            if trial.should_prune():
                raise optuna.TrialPruned
        return floor + 0.3

    pruner = HopelessPruner(SweepConfig(stop="hopeless"))
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert "chance" in pruner.reason
    assert max(study.trials[1].intermediate_values) <= PARTS // 4
