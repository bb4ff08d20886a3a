"""Places: what was drawn in order, whatever Optuna made of it; draws by the seed and the place alone."""

from __future__ import annotations

import pytest

from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.dials import dials_of
from bloomery.training.sweep.places import key_of, places, sampler_of

optuna = pytest.importorskip("optuna")
DIALS = dials_of({"t.rate": {"low": 1, "high": 3.0}, "t.size": {"low": 1, "high": 64}})


def _drawn(sampler):
    trial = optuna.create_study(sampler=sampler).ask()
    return tuple(dial.suggest(trial) for dial in DIALS)


def test_a_place_is_of_values_not_of_parts():
    study = optuna.create_study()
    for values in ({"t.rate": 1, "t.size": 2}, {"t.rate": 2.5, "t.size": 2}, {"t.rate": 1.0, "t.size": 2}):
        study.enqueue_trial(values)
    first = study.ask()
    waiting = places(DIALS, study.trials)
    assert list(waiting.values()) == [0, 1] and list(waiting) == [
        '{"t.rate":1.0,"t.size":2}',
        '{"t.rate":2.5,"t.size":2}',
    ]
    for dial in DIALS:
        dial.suggest(first)
    assert places(DIALS, study.trials) == waiting and key_of(DIALS, first.params) == next(iter(waiting))
    study.ask()  # killed before it had any value
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL))
    assert places(DIALS, study.trials) == waiting and key_of(DIALS, {"t.rate": 1.0}) == ""


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_depend_on_seed_place_and_attempt(sampler):
    config = SweepConfig(dials={}, sampler=sampler, seed=3)
    asked = [
        (SweepConfig(dials={}, sampler=sampler, seed=seed), place, attempt)
        for seed, place, attempt in ((3, 4, 0), (3, 5, 0), (3, 4, 1), (4, 4, 0))
    ]
    drawn = [_drawn(sampler_of(*one, parallel=False)) for one in asked]
    assert len(set(drawn)) == 4 and drawn[0] == _drawn(sampler_of(config, 4, 0, parallel=True))
