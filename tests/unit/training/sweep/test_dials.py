"""Dials: lists and ranges of a recipe, as Optuna draws them and as a grid."""

from __future__ import annotations

import math
from datetime import date

import pytest

from bloomery.core.config import parse_scalar
from bloomery.core.errors import ConfigError
from bloomery.training.sweep.dials import Dial, dials_of, grid_of, override


def test_grids():
    assert Dial.of("a", ["x", "y"]).grid(9) == ["x", "y"]
    assert Dial.of("a", {"low": 0.25, "high": 4.0, "log": True}).grid(5) == pytest.approx([0.25, 0.5, 1, 2, 4])
    assert Dial.of("a", {"low": 64, "high": 256, "step": 64}).grid(2) == [64, 128, 192, 256]
    assert Dial.of("a", {"low": 1, "high": 4}).grid(10) == [1, 2, 3, 4]
    assert Dial.of("a", {"low": 0.0, "high": 1.0}).grid(3) == [0.0, 0.5, 1.0]


def test_a_step_of_a_half_is_no_whole_number():
    assert Dial.of("a", {"low": 1, "high": 2, "step": 0.5}).grid(9) == [1.0, 1.5, 2.0]


def test_the_end_of_a_grid_is_inside_for_optuna(recwarn: pytest.WarningsRecorder):
    """0.1 + 2 * 0.1 is a bit above 0.3, and so is a low times a ratio."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    stepped = Dial.of("s", {"low": 0.1, "high": 0.3, "step": 0.1})
    logarithmic = Dial.of("l", {"low": 0.1, "high": 0.7, "log": True})
    for dial in (stepped, logarithmic):
        for value in dial.grid(4):
            study.enqueue_trial({dial.key: value})
            assert dial.suggest(study.ask()) == value <= dial.high
    assert not recwarn.list


def test_optuna_draws_from_them():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    wide, whole = Dial.of("lr", {"low": 1e-4, "high": 1.0, "log": True}), Dial.of("n", {"low": 2, "high": 8, "step": 2})
    choice, drawn = Dial.of("s", ["on", "off"]), []
    for _ in range(60):
        trial = study.ask()
        drawn.append((wide.suggest(trial), whole.suggest(trial), choice.suggest(trial)))
    rates = [math.log10(rate) for rate, _, _ in drawn]
    assert min(rates) >= -4 and max(rates) <= 0 and abs(sum(rates) / 60 + 2) < 0.6  # uniform in the logarithm
    assert {n for _, n, _ in drawn} == {2, 4, 6, 8} and {s for _, _, s in drawn} == {"on", "off"}


FINE = {"low": 0, "high": 1, "step": 1e-9}


def test_no_grid_of_more_than_anybody_tries():
    with pytest.raises(ConfigError, match="values in a grid") as caught:
        Dial.of("a", FINE).grid(4)
    assert '"tpe"' in caught.value.hint
    wide = [Dial.of(key, {"low": 1, "high": 101, "step": 1}) for key in "ab"]
    with pytest.raises(ConfigError, match="10,201 combinations"):
        grid_of(wide, 4)
    assert len(grid_of(wide[:1], 4)) == 101


def test_places_of_a_grid_without_the_grid():
    fine = Dial.of("a", FINE)
    assert (
        fine.at(0, 4) == 0 and fine.at(fine.places(4) - 1, 4) == pytest.approx(1.0) and fine.at(500_000_000, 4) == 0.5
    )
    smooth = Dial.of("a", {"low": 1.0, "high": 9.0})
    assert [smooth.at(place, 3) for place in range(smooth.places(3))] == smooth.grid(3) == [1.0, 5.0, 9.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "plain values"),
        ([[1]], "plain values"),
        ([1.0, math.nan], "plain values"),
        ([date(2026, 1, 1)], "plain values"),
        ([1, 2, 1.0], "a value twice"),
        ({"low": 1, "high": 4, "log": "false"}, "true or false"),
        ({"low": 1, "high": 4, "step": -1}, "lead from its low"),
        ({"low": 1, "high": 4, "step": 5}, "lead from its low"),
        ({"low": 1, "high": 10**400}, "is no number"),
        (3, "neither a list nor a range"),
        ({"low": 1, "hihg": 2}, 'has no "hihg"'),
        ({"low": 2, "high": 2}, "below its high"),
        ({"high": 2}, "has no low"),
        ({"low": 0, "high": 2, "log": True}, "above 0"),
        ({"low": "a", "high": 2}, "is no number"),
        ({"low": 0.0, "high": math.inf}, "is no number"),
        ({"low": -1e308, "high": 1e308}, "more than numbers can count"),
        ({"low": 0, "high": 1, "step": 5e-324}, "more than numbers can count"),
        ({"low": -(10**308), "high": 10**308}, "more than numbers can count"),
    ],
)
def test_mistakes(value, message):
    with pytest.raises(ConfigError, match=message):
        Dial.of("pretrain.steps", value)


def test_none_at_all():
    with pytest.raises(ConfigError, match="no dials"):
        dials_of({})


@pytest.mark.parametrize("value", [3, 0.1, 1e-7, True, "adamw", 'a "quoted" one'])
def test_overrides_come_back_as_they_were(value):
    key, _, text = override("train.fit.x", value).partition("=")
    assert key == "train.fit.x" and parse_scalar(text) == value


@pytest.mark.parametrize(
    ("value", "tested"),
    [
        ([3, "a"], (3, "a")),
        ({"low": 2, "high": 7, "step": 2}, (2, 6)),
        ({"low": 2, "high": 7}, (2, 7)),
        ({"low": 0.0, "high": 0.3, "step": 0.1}, (0.0, 0.3)),
        ({"low": 0.25, "high": 4.0, "log": True}, (0.25, 4.0)),
    ],
)
def test_what_is_looked_at_beforehand(value, tested):
    assert Dial.of("t.x", value).tested == tested


def test_what_turns_smoothly_is_kept_as_a_float():
    kept = [Dial.of("t.x", value).kept(1) for value in ({"low": 1, "high": 2.5}, {"low": 1, "high": 2}, [1, 2])]
    assert [type(one) for one in kept] == [float, int, int]
