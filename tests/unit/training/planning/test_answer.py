"""The answer says of a decision what it costs and what is to be said beside it."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.core.quantity import Quantity
from bloomery.training.planning.answer import Decision, answer
from bloomery.training.planning.law import DEFAULT_LAW
from bloomery.training.planning.offer import Offer
from bloomery.training.planning.plan import Budget, PlanRequest
from bloomery.training.planning.spending import Pace
from bloomery.training.speed import StepTime

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
REQUEST = PlanRequest(
    tokens=1_000_000, text_bytes=4_000_000, vocab_size=512, budget=Budget(minutes=1.0), base=BASE, context_length=64
)
PACE = Pace(
    step=0.5,
    validation_row=0.0,
    batch_rows=64,
    validations=0,
    validation_rows=0,
    checkpoint=0.0,
    checkpoint_every=30.0,
)
TIMING = StepTime(
    seconds=0.5,
    low=0.4,
    high=0.6,
    rows=64,
    context_length=64,
    precision="float32",
    compiled=False,
    compile_seconds=0.0,
    parameters=1,
    watts=Quantity(low=10.0, central=20.0, high=40.0, method="estimated"),
)
DECISION = Decision(
    offer=Offer(BASE, 16, PACE, 100, 100 * 64 * 64 * 4.0, 2.0),
    timing=TIMING,
    eager=TIMING,
    threads=3,
    precision="float32",
    batch_rows=64,
    law=DEFAULT_LAW,
    limit=60.0,
    available_bytes=1e9,
    offers=(),
    reasons=("because",),
)


def test_costs_follow_from_the_offer():
    made = answer(REQUEST, DECISION)
    assert (made.steps, made.tokens, made.threads, made.micro_rows) == (100, 100 * 64 * 64, 3, 16)
    assert made.predicted_seconds == pytest.approx(50.0)
    assert made.seconds.low == pytest.approx(40.0) and made.seconds.high == pytest.approx(60.0)
    assert made.joules.central == pytest.approx(1000.0)
    assert made.epochs == pytest.approx(100 * 64 * 64 / 1e6)


def test_what_is_said():
    reasons = answer(replace(REQUEST, reasons=("law: ours",)), DECISION).reasons
    assert "because" in reasons and "law: ours" in reasons
    assert "16 rows are computed at a time, so that a step fits into memory" in reasons
    assert any("the machine is busy" in line for line in reasons)  # 40% between the bounds
    assert not any("exceeded" in line for line in reasons)
    tight = answer(REQUEST, replace(DECISION, limit=40.0)).reasons
    assert any("it will be exceeded" in line for line in tight)
