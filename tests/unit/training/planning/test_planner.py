"""The planner against a machine whose speed is known, and against what it was asked."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import BloomeryError, ConfigError, DeviceError
from bloomery.core.quantity import Quantity
from bloomery.energy import EnergyConfig
from bloomery.models import ModelConfig
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.planning import planner
from bloomery.training.planning.law import ScalingLaw
from bloomery.training.planning.plan import Budget, PlanRequest
from bloomery.training.planning.planner import plan
from bloomery.training.planning.shapes import matrix_parameters, shaped, step_flops
from bloomery.training.speed import FewerThreads, StepTime

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
REQUEST = PlanRequest(
    tokens=2_000_000,
    text_bytes=8_000_000,
    vocab_size=512,
    budget=Budget(minutes=2.0),
    base=BASE,
    context_length=64,
    precision="float32",
)
WATTS = Quantity(low=10.0, central=20.0, high=40.0, method="estimated")


def asked(**changes: object) -> PlanRequest:
    """REQUEST with changes; `minutes` and the like are its budget."""
    budgets = {"minutes", "steps", "watt_hours", "money", "bits_per_byte"} & changes.keys()
    rest = {name: value for name, value in changes.items() if name not in budgets}
    if budgets:
        rest["budget"] = Budget(**{name: changes[name] for name in budgets})  # type: ignore[arg-type]
    return replace(REQUEST, **rest)  # type: ignore[arg-type]


@pytest.fixture
def even_machine(monkeypatch: pytest.MonkeyPatch) -> list[ModelConfig]:
    """A machine of exactly 100 GFLOP/s, 10 ms of overhead a step and 20 W, where short rows take three quarters of a
    step; what was timed on it."""
    timed: list[ModelConfig] = []

    def measured(
        config: ModelConfig,
        *,
        rows: int,
        context_length: int,
        precision: str,
        micro_rows: int = 0,
        short_rows: bool = False,
        **_: object,
    ) -> StepTime:
        timed.append(config)
        seconds = 0.01 + step_flops(config, rows * context_length, context_length) / 1e11
        return StepTime(
            seconds=seconds,
            low=0.99 * seconds,
            high=1.01 * seconds,
            rows=rows,
            micro_rows=micro_rows or rows,
            context_length=context_length,
            precision=precision,
            compiled=False,
            compile_seconds=0.0,
            parameters=1,
            validation_seconds=seconds / 3,
            validation_rows=rows,
            bursts=(seconds,),
            short_cost=0.75 if short_rows else 1.0,
            watts=WATTS,
        )

    monkeypatch.setattr(planner, "measure_step", measured)
    monkeypatch.setattr(planner, "checkpoint_rate", lambda folder: 1e9)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # other numbers are not tried
    return timed


def test_more_minutes_give_a_larger_model(even_machine: list[ModelConfig]):
    sizes = [plan(asked(minutes=m)).model.hidden_size for m in (0.2, 2.0, 60.0, 1000.0)]
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0]


def test_the_chosen_shape_was_timed(even_machine: list[ModelConfig]):
    for minutes in (0.5, 5.0, 500.0):
        even_machine.clear()
        made = plan(asked(minutes=minutes))
        assert made.model in even_machine and len(set(even_machine)) <= 5 and len(even_machine) <= 9
        exact = 0.01 + step_flops(made.model, made.batch_rows * 64, 64) / 1e11
        assert made.seconds_per_step == pytest.approx(exact)


def test_time_is_kept(even_machine: list[ModelConfig]):
    made = plan(asked(validation_tokens=100_000))
    assert made.steps * made.seconds_per_step < made.predicted_seconds <= 120
    assert made.predicted_seconds == pytest.approx(120, rel=0.03)
    assert made.seconds.low is not None and made.seconds.high is not None
    assert made.seconds.low < made.predicted_seconds < made.seconds.high


def test_neighbours_are_worse_in_the_same_time(even_machine: list[ModelConfig]):
    law = ScalingLaw(E=0.5, A=200.0, alpha=0.4, B=60.0, beta=0.3)
    made = plan(asked(minutes=20.0, law=law, tokens=2_000_000_000, text_bytes=8_000_000_000))
    best = made.predicted_bits_per_byte.central
    assert best is not None and {"half", "double"} == {other.name for other in made.alternatives}
    half, double = sorted(made.alternatives, key=lambda other: other.parameters)
    assert half.parameters < made.parameters < double.parameters and half.steps > made.steps > double.steps
    for other in made.alternatives:
        assert other.predicted_bits_per_byte.central > best  # type: ignore[operator]
        assert other.seconds == pytest.approx(made.predicted_seconds, rel=0.03)


def test_watt_hours_and_money(even_machine: list[ModelConfig]):
    made = plan(asked(watt_hours=1.0))
    assert made.predicted_seconds == pytest.approx(3600 / 20, rel=0.03)
    assert made.joules.central == pytest.approx(3600, rel=0.03)
    paid = plan(asked(money=0.5, energy=EnergyConfig(price_per_hour=10.0, price_per_kwh=0.0, country="FR")))
    assert paid.predicted_seconds == pytest.approx(180, rel=0.03)
    assert paid.cost.central == pytest.approx(0.5, rel=0.03) and paid.currency == "EUR"
    assert paid.gco2e.known
    with pytest.raises(ConfigError, match="price"):
        plan(asked(money=1.0))


def test_a_target_is_reached_in_the_least_time(even_machine: list[ModelConfig]):
    made = plan(asked(bits_per_byte=1.6))
    assert made.predicted_bits_per_byte.central == pytest.approx(1.6, abs=0.01)
    assert made.predicted_bits_per_byte.central is not None and made.predicted_bits_per_byte.central <= 1.6
    less = plan(asked(minutes=made.predicted_seconds / 60 * 0.8)).predicted_bits_per_byte.central
    assert less is not None and less > 1.6
    with pytest.raises(ConfigError, match="cannot be expected of this corpus"):
        plan(asked(bits_per_byte=0.3))


def test_a_small_corpus_is_said(even_machine: list[ModelConfig]):
    made = plan(asked(tokens=20_000, text_bytes=80_000, minutes=10))
    assert made.epochs > 16
    assert any("more text would help" in reason for reason in made.reasons)
    wasted = next(reason for reason in made.reasons if "would be wasted" in reason)
    assert "this corpus supports about" in wasted and "bits per byte" in wasted
    assert made.supported_parameters <= matrix_parameters(shaped(BASE, 8, 512))


def test_a_bad_size_is_said(even_machine: list[ModelConfig]):
    large = shaped(BASE, 12, 768)
    made = plan(asked(base=large, fixed_size=True, minutes=1.0))
    assert made.model == large
    assert any("is not the best use of this budget" in reason for reason in made.reasons)


def test_fixed_sizes_and_steps_are_kept(even_machine: list[ModelConfig]):
    made = plan(asked(fixed_size=True, steps=7, batch_rows=12, micro_rows=4))
    assert (made.model, made.steps, made.batch_rows, made.micro_rows) == (BASE, 7, 12, 4)
    assert made.seconds_per_step == pytest.approx(0.01 + step_flops(BASE, 12 * 64, 64) / 1e11)


def test_what_does_not_fit_into_memory(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "available_memory", lambda device: 1.5e9)
    made = plan(asked(minutes=5000.0, batch_rows=512))
    assert made.micro_rows < 512 and any("rows are computed at a time" in reason for reason in made.reasons)
    assert made.memory_bytes.high is not None and made.memory_bytes.high < 1.5e9
    monkeypatch.setattr(planner, "available_memory", lambda device: 1e6)
    with pytest.raises(BloomeryError, match="fits into"):
        plan(REQUEST)


def test_rows_at_a_time_divide_the_batch_and_fit(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch):
    made = plan(asked(minutes=1.0, micro_rows=24))
    assert made.batch_rows == 64 and made.micro_rows == 16
    assert plan(asked(steps=7, fixed_size=True, batch_rows=4, micro_rows=64)).micro_rows == 4
    with pytest.raises(ConfigError, match="a batch of 8 rows cannot be cut into micro-batches of 3"):
        plan(asked(batch_rows=8, micro_rows=3))
    # Too large a shape is not tried, nor even timed, however the batch is cut.
    monkeypatch.setattr(planner, "available_memory", lambda device: 1.5e9)
    even_machine.clear()
    plan(asked(minutes=5000.0, batch_rows=64, micro_rows=64))
    assert max(config.hidden_size for config in even_machine) < 512


@pytest.mark.parametrize("budget", ["minutes", "watt_hours", "money", "bits_per_byte", "steps"])
@pytest.mark.parametrize("fixed_size", [False, True])
def test_no_memory_is_said_whatever_the_budget(
    even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch, budget: str, fixed_size: bool
):
    monkeypatch.setattr(planner, "available_memory", lambda device: 1e6)
    with pytest.raises(DeviceError, match="not even one row"):
        plan(asked(**{budget: 2}, fixed_size=fixed_size, energy=EnergyConfig(price_per_kwh=0.3)))
    assert not even_machine


def test_a_compiler_that_fails_is_said(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch):
    real = planner.measure_step

    def measured(config: ModelConfig, *, compiled: bool = False, **rest) -> StepTime:
        if compiled:
            raise RuntimeError("no compiler here\nand a long story")
        return real(config, **rest)

    monkeypatch.setattr(planner, "measure_step", measured)
    made = plan(asked(minutes=60))
    assert not made.compiled and any("torch.compile failed here" in reason for reason in made.reasons)
    with pytest.raises(DeviceError, match=r"RuntimeError no compiler here$"):
        plan(asked(compile="on"))


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"minutes": 0.0001}])
def test_budgets_that_allow_nothing(even_machine: list[ModelConfig], wrong: dict[str, float]):
    with pytest.raises(ConfigError):
        plan(asked(**wrong))


def test_compile_is_used_only_when_it_pays(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch):
    real = planner.measure_step

    def measured(config: ModelConfig, *, compiled: bool = False, **rest) -> StepTime:
        time = real(config, **rest)
        return replace(time, seconds=time.seconds / 2, compiled=True, compile_seconds=60.0) if compiled else time

    monkeypatch.setattr(planner, "measure_step", measured)
    assert not plan(REQUEST).compiled  # two minutes: not even measured
    compiled = plan(asked(minutes=60))
    assert compiled.compiled and compiled.predicted_seconds == pytest.approx(3600, rel=0.03)
    assert not plan(asked(minutes=60, compile="off")).compiled
    assert plan(asked(compile="on")).compiled


def test_the_parts_of_the_time_are_its_sum(even_machine: list[ModelConfig]):
    made = plan(asked(minutes=10.0, validation_tokens=100_000))
    parts = made.components
    assert parts.total == pytest.approx(made.predicted_seconds)
    assert parts.steps == pytest.approx(made.steps * made.seconds_per_step)
    assert min(parts.start, parts.steps, parts.evaluation, parts.checkpoints, parts.writing) > 0
    assert parts.compiling == 0 and made.planning_seconds > 0


def test_growing_batches_take_less(even_machine: list[ModelConfig]):
    whole, grown = (plan(asked(steps=300, fixed_size=True, batch_rows=8, first_batch=one)) for one in (1.0, 0.5))
    # A third of the steps each at a half, three quarters, and all of the rows.
    assert grown.tokens == pytest.approx(0.75 * whole.tokens, rel=1e-3)
    assert grown.components.steps == pytest.approx(0.75 * whole.components.steps)


def test_short_rows_take_less(even_machine: list[ModelConfig]):
    whole = plan(asked(steps=300, fixed_size=True, batch_rows=8))
    short = plan(asked(steps=300, fixed_size=True, batch_rows=8, short_rows_fraction=0.4))
    assert short.tokens == whole.tokens
    assert short.components.steps == pytest.approx((1 - 0.4 * 0.25) * whole.components.steps)
    # Of a batch that grows from a half, the first 40% of the steps read a third at a half, a little at three quarters.
    both = plan(asked(steps=300, fixed_size=True, batch_rows=8, short_rows_fraction=0.4, first_batch=0.5))
    share = (1 / 3 * 0.5 + (0.4 - 1 / 3) * 0.75) / 0.75
    assert both.components.steps == pytest.approx(0.75 * (1 - share * 0.25) * whole.components.steps)


def test_batch_and_rates_follow_the_tokens(even_machine: list[ModelConfig]):
    short, long = (plan(asked(minutes=m, scale_rates=True, tokens=int(1e10), text_bytes=int(4e10))) for m in (1, 3000))
    for made in (short, long):
        tokens = made.batch_rows * made.context_length
        rule = 0.58 * made.tokens**0.571  # Step Law
        assert tokens == 4096 or tokens / rule == pytest.approx(1, abs=0.5)
        scale = min(1.0, max(0.5, (tokens / rule) ** 0.5))
        assert made.learning_rate == pytest.approx(0.02 * scale)
        assert made.learning_rates["head_lr"] == pytest.approx(0.004 * scale)
    assert long.batch_rows > short.batch_rows
    fixed = plan(asked(minutes=1, batch_rows=8, tokens=int(1e10), text_bytes=int(4e10)))
    assert fixed.batch_rows == 8 and fixed.learning_rate == 0.02


@pytest.mark.parametrize("most", [{"steps": 10**12}, {"minutes": 6e7}, {"watt_hours": 1e12}, {"money": 1e12}])
def test_the_largest_budgets_are_planned(even_machine: list[ModelConfig], most: dict[str, float]):
    assert plan(asked(energy=EnergyConfig(price_per_hour=1e-6), **most)).steps > 10**7


def test_a_law_of_another_batch_is_said(even_machine: list[ModelConfig]):
    """The batch is chosen after the law was found: only then can they be compared."""
    law = ScalingLaw(E=0.5, A=200.0, alpha=0.4, B=60.0, beta=0.3, spread_low=0.01, spread_high=0.01, batch_tokens=4096)
    long = {"minutes": 3000, "tokens": int(1e10), "text_bytes": int(4e10)}
    other, same = (plan(asked(law=law, **how)) for how in (long, {**long, "batch_rows": 64}))
    assert other.batch_rows > 64 == same.batch_rows
    said = f"the law was fitted with steps of 4,096 tokens, not {64 * other.batch_rows:,}"
    assert any(line.startswith(said) for line in other.reasons)
    assert not any("was fitted with steps" in line for line in same.reasons)
    bounds = other.predicted_bits_per_byte
    assert bounds.high is not None and bounds.central is not None and bounds.high > 1.05 * bounds.central
    unknown = plan(asked(law=replace(law, batch_tokens=0.0), **long))
    assert not any("was fitted with steps" in line for line in unknown.reasons)


@pytest.mark.parametrize("budget", [{"steps": 10**8}, {"minutes": 6e7}])
def test_a_batch_is_not_larger_than_the_text_is_worth(even_machine: list[ModelConfig], budget: dict[str, float]):
    """Hundred million steps over 20,000 tokens: the rule alone would have them of 12 billion tokens each."""
    made = plan(asked(tokens=20_000, text_bytes=80_000, scale_rates=True, **budget))
    assert made.batch_rows * 64 == 4096 > 0.58 * (40 * 20_000) ** 0.571 and made.learning_rate == 0.02


def test_a_slow_moment_does_not_spoil_the_time(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch):
    real, calls = planner.measure_step, []

    def disturbed(config: ModelConfig, **rest) -> StepTime:
        time = real(config, **rest)
        slow = 3 * time.seconds
        calls.append(config)
        bursts = (slow, slow, time.seconds) if len(calls) == 1 else (time.seconds,) * 3
        return replace(time, bursts=bursts, seconds=sorted(bursts)[1], high=slow)

    monkeypatch.setattr(planner, "measure_step", disturbed)
    made = plan(asked(minutes=2.0))
    exact = 0.01 + step_flops(made.model, made.batch_rows * 64, 64) / 1e11
    assert made.seconds_per_step == pytest.approx(exact)
    assert made.seconds.high is not None and made.seconds.high >= 2.9 * made.predicted_seconds
    assert any("the machine is busy" in reason for reason in made.reasons)


@pytest.fixture
def two_threads(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The even machine with two threads, of which one is faster and takes half the power; those that PyTorch had as
    each shape was timed."""
    real, seen = planner.measure_step, list[int]()

    def measured(config: ModelConfig, **rest) -> StepTime:
        seen.append(torch.get_num_threads())
        return real(config, **rest)

    monkeypatch.setattr(planner, "measure_step", measured)
    monkeypatch.setattr(planner, "compare_threads", lambda *_, **how: FewerThreads(share=0.8, watts=WATTS.scaled(0.5)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield seen
    torch.set_num_threads(before)


def test_threads_are_chosen_by_measurement(two_threads: list[int], monkeypatch: pytest.MonkeyPatch):
    made = plan(asked(minutes=10.0, compile="on"))
    assert made.threads == 1 and torch.get_num_threads() == 2
    assert two_threads[-1] == 1  # torch.compile is measured with as many as the run has
    assert any(line.startswith("1 thread: 0.80 of the time of 2") for line in made.reasons)
    alone = plan(asked(minutes=10.0, tries_threads=False))
    faster = plan(asked(minutes=10.0))
    assert (alone.threads, faster.threads, faster.model) == (2, 1, alone.model)
    assert faster.seconds_per_step == pytest.approx(0.8 * alone.seconds_per_step)
    assert faster.steps == pytest.approx(alone.steps / 0.8, rel=0.02)
    assert faster.predicted_seconds == pytest.approx(600, rel=0.03)
    # Half the watts: watt-hours last for twice the time.
    assert plan(asked(watt_hours=1.0)).predicted_seconds == pytest.approx(3600 / 10, rel=0.03)

    def fails(*_: object, **how: object) -> FewerThreads:
        torch.set_num_threads(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(planner, "compare_threads", fails)
    with pytest.raises(KeyboardInterrupt):
        plan(asked(minutes=10.0))
    assert torch.get_num_threads() == 2


def test_comparing_threads_keeps_to_its_share(two_threads: list[int], monkeypatch: pytest.MonkeyPatch):
    given = []

    def compared(*_: object, within_seconds: float, **how: object) -> FewerThreads:
        given.append(within_seconds)
        return FewerThreads(share=1.5, watts=WATTS)

    monkeypatch.setattr(planner, "compare_threads", compared)
    made = plan(asked(minutes=2.0, fixed_size=True))
    assert made.threads == 2 and 0 < given[-1] <= 0.02 * 120
    assert any("with 1 a step takes 1.50 of the time" in line for line in made.reasons)
    plan(asked(minutes=500.0, fixed_size=True))
    assert given[-1] <= 4.0


def test_steps_are_timed_with_the_optimiser_asked_for(even_machine: list[ModelConfig], monkeypatch: pytest.MonkeyPatch):
    given = []
    real = planner.measure_step
    monkeypatch.setattr(planner, "measure_step", lambda config, **rest: given.append(rest) or real(config, **rest))
    whole = OptimizerConfig(matrix_by_head=False, matrix_feed_block=0)
    plan(asked(optimizer=whole))
    assert given and all(one["optimizer"] == whole for one in given)


def test_measured_on_this_machine(tmp_path: Path):
    made = plan(asked(minutes=0.05, device=torch.device("cpu"), fixed_size=True, batch_rows=4, folder=tmp_path))
    assert made.steps >= 1 and made.seconds_per_step > 0 and not made.joules.known
    assert made.components.checkpoints > 0 and not list(tmp_path.iterdir())
