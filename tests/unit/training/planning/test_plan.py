"""Budgets are one thing, and a plan survives being written down."""

from __future__ import annotations

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.training.planning.law import ScalingLaw
from bloomery.training.planning.plan import Alternative, Budget, Plan, read_plan
from bloomery.training.planning.shapes import matrix_parameters

MODEL = replace(runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"], eos_token_id=(1,))
ONE = Quantity(low=1.0, central=2.0, high=3.0, method="estimated")
PLAN = Plan(
    model=MODEL,
    batch_rows=16,
    micro_rows=8,
    context_length=64,
    steps=100,
    precision="float32",
    compiled=False,
    threads=1,
    device="cpu",
    parameters=1000,
    learning_rate=0.02,
    learning_rates={"matrix_lr": 0.02},
    seconds_per_step=0.5,
    predicted_seconds=50.0,
    predicted_bits_per_byte=ONE,
    epochs=0.5,
    tokens=102_400,
    seconds=ONE,
    joules=ONE,
    gco2e=ONE,
    cost=Quantity.unknown(),
    memory_bytes=ONE,
    available_bytes=1e9,
    budget=Budget(minutes=1.0),
    law="somebody's",
    calibrated=False,
    alternatives=(
        Alternative(
            name="half",
            num_hidden_layers=1,
            hidden_size=64,
            parameters=500,
            steps=200,
            seconds=50.0,
            predicted_bits_per_byte=ONE,
        ),
    ),
    reasons=("because",),
)


@pytest.mark.parametrize(
    ("budget", "kind", "text"),
    [
        (Budget(minutes=5), "minutes", "5 minutes"),
        (Budget(watt_hours=2.5), "watt_hours", "2.5 watt hours"),
        (Budget(money=1), "money", "1 EUR"),
        (Budget(bits_per_byte=1.5), "bits_per_byte", "1.5 bits per byte"),
        (Budget(steps=7), "steps", "7 steps"),
    ],
)
def test_one_budget(budget: Budget, kind: str, text: str):
    assert budget.kind == kind and budget.text("EUR") == text


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"minutes": 1.0, "money": 1.0},
        {"minutes": -1.0},
        {"minutes": math.nan},
        {"money": math.inf},
        {"minutes": 1e308},
        {"watt_hours": 1e308},
        {"money": 1e13},
        {"bits_per_byte": 1e308},
        {"bits_per_byte": 8.0},
        {"steps": 10**400},
        {"steps": -(10**400)},
    ],
)
def test_no_budget_or_two(wrong: dict[str, float]):
    with pytest.raises(ConfigError):
        Budget(**wrong)  # type: ignore[arg-type]


def test_round_trip():
    assert Plan.from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN
    assert PLAN.for_data("t", "k") == replace(PLAN, tokens_artifact="t", tokenizer_artifact="k")


def test_reading_a_file_or_a_folder(tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN.to_dict()))
    assert read_plan(tmp_path) == read_plan(tmp_path / "plan.json") == PLAN


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"micro_rows": -1},
        {"threads": 0},
        {"precision": "float8"},
        {"learning_rates": {"matrix_rate": 0.1}},
        {"learning_rates": {"matrix_lr": "fast"}},
        {"learning_rates": {"matrix_lr": math.nan}},
    ],
)
def test_a_plan_that_somebody_spoilt(tmp_path: Path, change: dict[str, Any]):
    (tmp_path / "plan.json").write_text(json.dumps({**PLAN.to_dict(), **change}))
    with pytest.raises(DataError, match="is no plan"):
        read_plan(tmp_path)


def test_other_steps_in_the_same_time():
    """Twice the steps read twice as much; what that reaches only the law can tell."""
    law = ScalingLaw(E=0.5, A=200.0, alpha=0.4, B=60.0, beta=0.3)
    made = PLAN.paced(200, 0.25, "two ranks", law=law, text_bytes=1_000_000)
    assert (made.steps, made.tokens, made.epochs, made.seconds) == (200, 204_800, 1.0, ONE)
    assert made.predicted_bits_per_byte == law.predict(matrix_parameters(MODEL), 1e6, 1e6)
    assert made.reasons == ("because", "two ranks")
    assert not PLAN.paced(200, 0.25, "two ranks").predicted_bits_per_byte.known
    of_another_batch = replace(law, batch_tokens=PLAN.batch_rows * PLAN.context_length + 1)
    made = PLAN.paced(200, 0.25, "two ranks", law=of_another_batch, text_bytes=1_000_000)
    assert made.predicted_bits_per_byte == law.wider().predict(matrix_parameters(MODEL), 1e6, 1e6)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}', "\x00"])
def test_what_is_no_plan(tmp_path: Path, text: str):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(DataError):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(DataError, match="cannot read"):
        read_plan(tmp_path / "other.json")
