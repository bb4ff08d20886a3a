"""Advice: what a plan says beside its numbers, above all when it is a bad one.

This module does not know how shapes are timed or chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.core.quantity import Quantity
from bloomery.models import ModelConfig
from bloomery.training.planning.law import ScalingLaw
from bloomery.training.planning.plan import Alternative
from bloomery.training.planning.shapes import suggested_vocabulary
from bloomery.training.speed import StepTime

_MANY_PASSES = 16.0
_WORSE = 1.02
_UNSTEADY = 0.3


def vocabulary_advice(config: ModelConfig) -> str:
    """The rule's vocabulary, where the tokenizer's is less than half or more than twice as large; else nothing."""
    rule = suggested_vocabulary(config)
    if rule / 2 <= config.vocab_size <= rule * 2:
        return ""
    return (
        f"vocabulary {config.vocab_size:,}: Tao et al.'s rule, found on larger models, gives about {rule:,} here"
        " (tokenizer.vocab_size)"
    )


def corpus_advice(law: ScalingLaw, unique_bytes: float, epochs: float, sizes: Sequence[int]) -> tuple[str, int]:
    """What this much text supports, and the size in matrix parameters beyond which more gains less than 1%."""
    supported = int(law.supported_parameters(unique_bytes, sizes))
    larger = max(sizes)
    lines = []
    if larger > supported:
        seen = 40 * unique_bytes
        one, other = (law.expected(size, seen, unique_bytes) for size in (supported, larger))
        lines.append(
            f"this corpus supports about {millions(supported)} parameters (without the embedding): {millions(larger)}"
            f" would be wasted, expected {other:.2f} against {one:.2f} bits per byte even after 40 passes"
        )
    if epochs > _MANY_PASSES:
        lines.append(f"{epochs:.0f} passes over the corpus: more text would help more than more minutes")
    return "; ".join(lines), supported


def time_advice(chosen: ModelConfig, seconds: float, others: Sequence[Alternative]) -> str:
    """Why this shape reaches a target soonest."""
    compared = [
        f"{other.name} {other.num_hidden_layers} x {other.hidden_size} {other.seconds:.0f} s" for other in others
    ]
    name = f"{chosen.num_hidden_layers} layers x {chosen.hidden_size}"
    return f"{name}: expected to reach the target in {seconds:.0f} s; {', '.join(compared)}" if compared else ""


def size_advice(chosen: ModelConfig, expected: Quantity, others: Sequence[Alternative], *, fixed: bool) -> str:
    """Why this shape and not its neighbours; for a shape that the user fixed, whether it is a bad one."""
    compared = [
        f"{other.name} {other.num_hidden_layers} x {other.hidden_size} {other.predicted_bits_per_byte.central:.3f}"
        for other in others
        if other.predicted_bits_per_byte.central is not None
    ]
    if expected.central is None or not compared:
        return ""
    name = f"{chosen.num_hidden_layers} layers x {chosen.hidden_size}"
    if not fixed:
        return f"{name}: expected {expected.central:.3f} bits per byte for this budget; {', '.join(compared)}"
    best = min(others, key=lambda other: other.predicted_bits_per_byte.central or 8.0)
    reached = best.predicted_bits_per_byte.central
    if reached is not None and expected.central > _WORSE * reached:
        return (
            f"{name} is not the best use of this budget: expected {expected.central:.2f} bits per byte against"
            f" {reached:.2f} with {best.num_hidden_layers} x {best.hidden_size}"
        )
    return ""


def batch_advice(law: ScalingLaw, tokens: int) -> str:
    """Whether the law was fitted on steps of another batch than the plan's."""
    if law.suits_batch(tokens):
        return ""
    return (
        f"the law was fitted with steps of {law.batch_tokens:,.0f} tokens, not {tokens:,}: the interval of what is"
        " expected is wider"
    )


def pace_advice(timing: StepTime) -> str:
    """Whether the steps that were timed differ so much that their time cannot be relied on."""
    apart = (timing.high - timing.low) / timing.seconds
    if apart <= _UNSTEADY:
        return ""
    return f"the steps timed differ by {apart:.0%}: the machine is busy, and the time is a guess"


def millions(count: float) -> str:
    """1.2M, 350k."""
    return f"{count / 1e6:.3g}M" if count >= 1e6 else f"{count / 1e3:.0f}k"
