"""The planner against the papers it follows, and against what it was asked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, ModelConfig
from bloomery.training import planner
from bloomery.training.planner import (
    LADDER,
    Plan,
    PlanRequest,
    effective_data,
    matrix_parameters,
    plan,
    predict_bits_per_byte,
    shaped,
    step_flops,
)
from bloomery.training.speed import StepTime

BASE = ModelConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=64,
)
REQUEST = PlanRequest(
    tokens=2_000_000,
    text_bytes=8_000_000,
    vocab_size=512,
    minutes=2.0,
    base=BASE,
    context_length=64,
    precision="float32",
)


@pytest.fixture
def even_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of exactly 100 GFLOP/s and 10 ms of overhead a step."""

    def measured(config: ModelConfig, *, rows: int, context_length: int, precision: str, **_: object) -> StepTime:
        flops = step_flops(config, rows * context_length, context_length)
        return StepTime(
            seconds=0.01 + flops / 1e11,
            rows=rows,
            context_length=context_length,
            precision=precision,
            compiled=False,
            compile_seconds=0.0,
            parameters=1,
        )

    monkeypatch.setattr(planner, "measure_step", measured)


@pytest.mark.parametrize(("epochs", "times"), [(2, 1.97), (4, 3.73), (16, 10.6), (40, 15.2), (1e9, 16.4)])
def test_repeats_count_as_in_muennighoff(epochs: float, times: float):
    # The published equivalents in unique data (arXiv 2305.16264), to their printed digits.
    assert effective_data(epochs * 1e6, 1e6) / 1e6 == pytest.approx(times, abs=0.06)


def test_less_than_one_pass_counts_in_full():
    assert effective_data(5e5, 1e6) == 5e5


@pytest.mark.parametrize("rung", LADDER[:4])
def test_matrix_parameters_are_those_of_the_decoder(rung: tuple[int, int]):
    decoder = Decoder(shaped(BASE, *rung))
    counted = sum(p.numel() for n, p in decoder.named_parameters() if p.ndim == 2 and "layers" in n)
    assert matrix_parameters(decoder.config) == counted


def test_a_rung_keeps_what_is_on_every_second_layer():
    own = replace(BASE, model_type="bloomery", value_embedding_layers=(1,), bigram_vocab_size=64)
    assert shaped(own, 5, 320).value_embedding_layers == (0, 2, 4)
    assert shaped(own, 5, 320).bigram_vocab_size == 64


def test_step_flops_are_six_a_parameter_and_attention():
    matrices = matrix_parameters(BASE) + 512 * 128
    assert step_flops(BASE, 1000, 64) == 6 * 1000 * (matrices + 2 * 2 * 64 * 64)


def test_more_of_either_is_better():
    little = predict_bits_per_byte(1e6, 1e6, 1e8).central
    assert little is not None
    for size, data in ((2e6, 1e6), (1e6, 2e6)):
        better = predict_bits_per_byte(size, data, 1e8).central
        assert better is not None and better < little


def test_more_minutes_give_a_larger_model(even_machine: None):
    sizes = [plan(replace(REQUEST, minutes=m)).model.hidden_size for m in (0.2, 2.0, 60.0, 1000.0)]
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0]


def test_time_is_kept(even_machine: None):
    made = plan(REQUEST)
    assert made.steps * made.seconds_per_step <= 120
    assert made.predicted_seconds == pytest.approx(120, rel=0.05)


def test_a_small_corpus_is_said(even_machine: None):
    made = plan(replace(REQUEST, tokens=20_000, text_bytes=80_000, minutes=10))
    assert made.epochs > 16
    assert any("more text would help" in reason for reason in made.reasons)


def test_fixed_sizes_and_steps_are_kept(even_machine: None):
    made = plan(replace(REQUEST, fixed_size=True, steps=7, batch_rows=12, micro_rows=4))
    assert (made.model, made.steps, made.batch_rows, made.micro_rows) == (BASE, 7, 12, 4)
    tokens = 4 * 64
    assert made.seconds_per_step == pytest.approx(3 * (0.01 + step_flops(BASE, tokens, 64) / 1e11))


def test_round_trip(even_machine: None):
    made = plan(REQUEST)
    assert Plan.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("wrong", [{"minutes": 0.0}, {"tokens": 0}, {"minutes": 0.0001}])
def test_budgets_that_allow_nothing(even_machine: None, wrong: dict[str, float]):
    with pytest.raises(ConfigError):
        plan(replace(REQUEST, **wrong))  # type: ignore[arg-type]


def test_compile_is_used_only_when_it_pays(even_machine: None, monkeypatch: pytest.MonkeyPatch):
    real = planner.measure_step

    def measured(config: ModelConfig, *, compiled: bool = False, **rest) -> StepTime:
        time = real(config, **rest)
        return replace(time, seconds=time.seconds / 2, compiled=True, compile_seconds=60.0) if compiled else time

    monkeypatch.setattr(planner, "measure_step", measured)
    assert not plan(REQUEST).compiled  # two minutes: not even measured
    assert plan(replace(REQUEST, minutes=60)).compiled
    assert not plan(replace(REQUEST, minutes=60, compile="off")).compiled
    assert plan(replace(REQUEST, compile="on")).compiled


def test_measured_on_this_machine():
    made = plan(replace(REQUEST, minutes=0.2, device=torch.device("cpu")))
    assert made.steps >= 1 and made.seconds_per_step > 0
