"""The plan: a corpus and minutes in; size, batch, steps, time and expected loss out, before anything is spent.

A handful of shapes are timed on this machine (`speed`), a power law says what each would reach in the tokens that
its time allows, and the best is taken. Repeated data counts less than new data (Muennighoff et al. 2023,
arXiv 2305.16264, R*_D = 15.388). The law's constants are fitted on small models trained by this code on the
documentation of Python (`experiments/fit_small_law.py` prints them); on other text, or above 20M parameters, the
predicted loss is a guess with a wide interval, and is labelled so. What it does not know: any budget but minutes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity
from bloomery.models import ModelConfig
from bloomery.models.config import every_second_layer
from bloomery.training.speed import StepTime, bfloat16_is_fast, measure_step

HEAD_DIM = 64
# (layers, hidden size): the ratio grows slowly, as in published ladders of small models.
LADDER = ((2, 128), (3, 192), (4, 256), (5, 320), (6, 384), (7, 448), (8, 512), (10, 640), (12, 768), (16, 1024))

# bits per byte = E + A / N^alpha + B / D^beta; N parameters outside the embedding, D effective training bytes.
LAW = {"E": 0.7126, "A": 17.33, "alpha": 0.4037, "B": 26.33, "beta": 0.2183}
LAW_SPREAD = 0.10
_FOREIGN_SPREAD = 0.35
_REPEAT_HALF_LIFE = 15.388


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs that its config left open, and what was predicted for it."""

    model: ModelConfig
    batch_rows: int
    micro_rows: int
    context_length: int
    steps: int
    precision: str
    compiled: bool
    threads: int
    device: str
    parameters: int
    learning_rate: float
    seconds_per_step: float
    predicted_seconds: float
    predicted_bits_per_byte: Quantity
    epochs: float
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        values = to_dict(dataclasses.replace(self, predicted_bits_per_byte=Quantity.unknown()))
        return {**values, "predicted_bits_per_byte": self.predicted_bits_per_byte.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        plain = dict(values)
        quantity = Quantity.from_dict(plain.pop("predicted_bits_per_byte"))
        unknown = Quantity.unknown().to_dict()
        plan = from_dict(cls, {**plain, "predicted_bits_per_byte": unknown}, where="plan")
        return dataclasses.replace(plan, predicted_bits_per_byte=quantity)


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What is known before planning; zero, "" and "auto" leave a choice to the planner."""

    tokens: int
    """Tokens in the training split."""
    text_bytes: int
    """UTF-8 bytes of the training split."""
    vocab_size: int
    minutes: float
    """Minutes of training, validation included; ignored when `steps` is given."""
    base: ModelConfig
    """Family and special tokens; its sizes are replaced unless `fixed_size`."""
    fixed_size: bool = False
    steps: int = 0
    batch_rows: int = 0
    micro_rows: int = 0
    context_length: int = 256
    precision: str = "auto"
    compile: str = "auto"
    learning_rate: float = 0.02
    """Peak of the hidden matrices (Muon); the others keep their ratio to it."""
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))


def plan(request: PlanRequest, *, say: Callable[[str], None] = lambda text: None) -> Plan:
    """Measure for a few seconds and plan. Raises ConfigError when the budget allows no step at all."""
    if request.tokens < 2 or request.text_bytes < 1:
        raise ConfigError("the training split is empty: there is nothing to plan for", hint="bloomery curate PATHS")
    if request.steps <= 0 and request.minutes <= 0:
        raise ConfigError(f"cannot train for {request.minutes:g} minutes", hint="pretrain.minutes or pretrain.steps")
    reasons: list[str] = []
    precision = _choose_precision(request, reasons)
    batch_rows = request.batch_rows or _batch_rows(request)
    shape, timing = _choose_shape(request, precision, batch_rows, reasons, say)
    compiled, timing = _choose_compile(request, shape, timing, reasons)
    budget = request.minutes * 60 * _TRAINING_SHARE - timing.compile_seconds
    steps = request.steps or int(budget / timing.seconds)
    if steps < 1:
        raise ConfigError(
            f"one step takes about {timing.seconds:.1f} s: {request.minutes:g} minutes allow none",
            hint="more minutes, or a smaller model or batch",
        )
    bytes_seen = steps * batch_rows * request.context_length * request.text_bytes / request.tokens
    epochs = bytes_seen / request.text_bytes
    if epochs > 16:
        reasons.append(f"{epochs:.0f} passes over the corpus: more text would help more than more minutes")
    return Plan(
        model=shape,
        batch_rows=batch_rows,
        micro_rows=request.micro_rows or batch_rows,
        context_length=request.context_length,
        steps=steps,
        precision=precision,
        compiled=compiled,
        threads=torch.get_num_threads(),
        device=str(request.device),
        parameters=timing.parameters,
        learning_rate=request.learning_rate,
        seconds_per_step=timing.seconds,
        predicted_seconds=steps * timing.seconds / _TRAINING_SHARE + timing.compile_seconds,
        predicted_bits_per_byte=predict_bits_per_byte(matrix_parameters(shape), bytes_seen, request.text_bytes),
        epochs=epochs,
        reasons=tuple(reasons),
    )


# Of the minutes given, what is left for steps after validation, checkpoints and their noise.
_TRAINING_SHARE = 0.93
_MIN_RUN_SECONDS_TO_COMPILE = 1200.0


def predict_bits_per_byte(matrix_params: float, bytes_seen: float, unique_bytes: float) -> Quantity:
    """What the law gives for a model of `matrix_params` parameters outside its embedding, with an interval."""
    effective = effective_data(bytes_seen, unique_bytes)
    central = LAW["E"] + LAW["A"] / matrix_params ** LAW["alpha"] + LAW["B"] / effective ** LAW["beta"]
    central = min(central, 8.0)
    return Quantity(
        low=central * (1 - LAW_SPREAD), central=central, high=central * (1 + _FOREIGN_SPREAD), method="estimated"
    )


def effective_data(seen: float, unique: float) -> float:
    """Data seen, repeats discounted: U + U R* (1 - exp(-R / R*)), R repeats after the first pass."""
    if seen <= unique:
        return seen
    repeats = seen / unique - 1
    return unique * (1 + _REPEAT_HALF_LIFE * (1 - math.exp(-repeats / _REPEAT_HALF_LIFE)))


def key_value_heads(heads: int) -> int:
    """Two query heads to a key head from four heads on."""
    return heads // 2 if heads % 2 == 0 and heads >= 4 else heads


def intermediate_size(hidden: int, *, gated: bool = True) -> int:
    """8/3 of the width in steps of 64: a SwiGLU with the parameters of a plain feed-forward four times as wide."""
    return 4 * hidden if not gated else max(64, round(hidden * 8 / 3 / 64) * 64)


def shaped(base: ModelConfig, layers: int, hidden: int) -> ModelConfig:
    """`base` with a rung of the ladder's sizes: head_dim 64."""
    heads = hidden // HEAD_DIM
    return dataclasses.replace(
        base,
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate_size(hidden, gated=base.gated),
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads(heads),
        head_dim=HEAD_DIM,
        value_embedding_layers=every_second_layer(layers) if base.value_embedding_layers else (),
    )


def matrix_parameters(config: ModelConfig) -> int:
    """Parameters of the attention and feed-forward matrices."""
    attention = 2 * (config.num_attention_heads + config.num_key_value_heads) * config.head_dim * config.hidden_size
    return config.num_hidden_layers * (attention + (2 + config.gated) * config.hidden_size * config.intermediate_size)


def step_flops(config: ModelConfig, tokens: int, context_length: int) -> float:
    """Floating-point operations of a training step: 6 per parameter and token, and causal attention."""
    matrices = matrix_parameters(config) + config.vocab_size * config.hidden_size
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * context_length
    return 6.0 * tokens * (matrices + attention)


def _choose_precision(request: PlanRequest, reasons: list[str]) -> str:
    if request.precision != "auto":
        return request.precision
    fast = bfloat16_is_fast(request.device)
    reasons.append("bfloat16: measured faster than float32 here" if fast else "float32: bfloat16 is slower here")
    return "bfloat16" if fast else "float32"


def _batch_rows(request: PlanRequest) -> int:
    """Rows of a batch: about 4,096 tokens below ten minutes, growing with the square root of the budget."""
    minutes = request.minutes if request.steps <= 0 else 5.0
    tokens = 4096 * max(1.0, minutes / 10) ** 0.5
    return max(1, 2 ** round(math.log2(tokens / request.context_length)))


def _choose_shape(
    request: PlanRequest, precision: str, batch_rows: int, reasons: list[str], say: Callable[[str], None]
) -> tuple[ModelConfig, StepTime]:
    def timed(config: ModelConfig, steps: int) -> StepTime:
        say(f"timing {config.num_hidden_layers} layers x {config.hidden_size}")
        return measure_step(
            config,
            rows=request.micro_rows or batch_rows,
            context_length=request.context_length,
            precision=precision,
            device=request.device,
            steps=steps,
        )

    def whole_batch(timing: StepTime) -> StepTime:
        parts = batch_rows / timing.rows
        return dataclasses.replace(timing, seconds=timing.seconds * parts, rows=batch_rows)

    if request.fixed_size:
        return request.base, whole_batch(timed(request.base, 3))
    # Each rung is timed rather than extrapolated to: two noisy timings once made the largest look as fast as the
    # smallest. Expected loss falls and then rises along the ladder, so climbing stops when it no longer falls.
    tokens = batch_rows * request.context_length
    best: tuple[ModelConfig, StepTime] | None = None
    expected = math.inf
    for rung in LADDER:
        config = shaped(request.base, *rung)
        timing = whole_batch(timed(config, 2))
        steps = request.steps or int(request.minutes * 60 * _TRAINING_SHARE / timing.seconds)
        seen = steps * tokens * request.text_bytes / request.tokens
        value = predict_bits_per_byte(matrix_parameters(config), seen, request.text_bytes).central if steps else None
        if value is None or value >= expected:
            break
        best, expected = (config, timing), value
    if best is None:
        raise ConfigError(f"{request.minutes:g} minutes are too few for even the smallest model", hint="more minutes")
    shape = best[0]
    reasons.append(
        f"{shape.num_hidden_layers} layers x {shape.hidden_size}: of the shapes timed, the one that the law expects"
        " to reach the lowest loss in this time"
    )
    return best


def _timed_compiled(request: PlanRequest, shape: ModelConfig, eager: StepTime) -> StepTime:
    """The compiled step in micro-batches as large as the run's, scaled to the whole batch."""
    rows = request.micro_rows or eager.rows
    timing = measure_step(
        shape,
        rows=rows,
        context_length=request.context_length,
        precision=eager.precision,
        device=request.device,
        compiled=True,
    )
    return dataclasses.replace(timing, seconds=timing.seconds * eager.rows / rows, rows=eager.rows)


def _choose_compile(
    request: PlanRequest, shape: ModelConfig, eager: StepTime, reasons: list[str]
) -> tuple[bool, StepTime]:
    """torch.compile if the run is long enough and measuring it shows that it wins back its compiling time."""
    total = request.minutes * 60 if request.steps <= 0 else request.steps * eager.seconds
    if request.compile == "off":
        return False, eager
    worth_trying = request.device.type == "cuda" or total >= _MIN_RUN_SECONDS_TO_COMPILE
    if request.compile == "auto" and not worth_trying:
        reasons.append(
            f"not compiled: measuring torch.compile costs a minute or more, the whole run is {total / 60:.1f} minutes"
        )
        return False, eager
    try:
        timing = _timed_compiled(request, shape, eager)
    except Exception as error:
        if request.compile == "on":
            raise
        # No compiler, no Triton, an operator it cannot lower: all of these only mean that it is not used.
        reasons.append(f"not compiled: torch.compile failed here ({type(error).__name__})")
        return False, eager
    gain = total * (1 - timing.seconds / eager.seconds) - timing.compile_seconds
    reasons.append(
        f"torch.compile: {timing.seconds:.3f} s a step against {eager.seconds:.3f}, {timing.compile_seconds:.0f} s to"
        f" compile: {'used' if gain > 0 or request.compile == 'on' else 'not used'}"
    )
    return (True, timing) if gain > 0 or request.compile == "on" else (False, eager)
