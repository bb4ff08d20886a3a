"""The answer: a plan from what the planner has decided, with its costs, its neighbours and its reasons.

This module does not know how shapes are timed or chosen (`planner`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.energy import footprint
from bloomery.training.planning import advice
from bloomery.training.planning.batch import rate_scale
from bloomery.training.planning.law import ScalingLaw
from bloomery.training.planning.memory import training_memory
from bloomery.training.planning.offer import Offer, alternatives
from bloomery.training.planning.plan import Alternative, Plan, PlanRequest
from bloomery.training.planning.shapes import LADDER, matrix_parameters, shaped, total_parameters
from bloomery.training.planning.spending import cost, product, time_interval
from bloomery.training.speed import StepTime


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the planner has decided, and by which figures."""

    offer: Offer
    timing: StepTime
    """Of the steps that the run will take."""
    eager: StepTime
    """The same without torch.compile."""
    threads: int
    precision: str
    batch_rows: int
    law: ScalingLaw
    """For this batch."""
    limit: float | None
    """Seconds that the budget pays for; None where it is not one of time, energy or money."""
    available_bytes: float
    offers: tuple[Offer, ...]
    """Of the whole ladder."""
    reasons: tuple[str, ...]


def answer(request: PlanRequest, made: Decision) -> Plan:
    """The plan; the seconds that planning took are the planner's to add."""
    offer, config, timing = made.offer, made.offer.config, made.timing
    kind = request.budget.kind if request.fixed_size else ""
    others = alternatives(offer, made.offers, made.law, request.text_bytes, best_for=kind)
    reasons, supported = _explained(request, made, others)
    seconds = time_interval(offer.seconds, low=timing.low / timing.seconds, high=timing.high / timing.seconds)
    batch = made.batch_rows * request.context_length
    joules, tokens = product(seconds, timing.watts), round(offer.steps * batch * offer.pace.rows_share)
    scale = rate_scale(batch, request.worth(tokens)) if request.scale_rates else 1.0
    rates = {name: rate * scale for name, rate in request.optimizer.rates.items()}
    return Plan(
        model=config,
        batch_rows=made.batch_rows,
        micro_rows=offer.micro_rows,
        context_length=request.context_length,
        steps=offer.steps,
        precision=made.precision,
        compiled=timing.compiled,
        threads=made.threads,
        device=str(request.device),
        parameters=total_parameters(config),
        learning_rate=rates["matrix_lr"],
        learning_rates=rates,
        optimizer=dataclasses.replace(request.optimizer, **rates),
        first_batch=request.first_batch,
        short_rows_fraction=request.short_rows_fraction,
        seconds_per_step=offer.pace.step,
        predicted_seconds=offer.seconds,
        predicted_bits_per_byte=offer.predicted(made.law, request.text_bytes),
        epochs=offer.seen / request.text_bytes,
        tokens=tokens,
        seconds=seconds,
        joules=joules,
        gco2e=footprint(joules, request.energy).gco2e,
        cost=cost(seconds, timing.watts, request.energy),
        memory_bytes=training_memory(
            config,
            micro_tokens=offer.micro_rows * request.context_length,
            precision=made.precision,
            device=request.device,
            optimizer=request.optimizer,
        ),
        available_bytes=made.available_bytes,
        budget=request.budget,
        law=made.law.origin,
        calibrated=made.law.calibrated,
        currency=request.energy.currency,
        components=offer.pace.parts(offer.steps),
        supported_parameters=supported,
        alternatives=others,
        reasons=reasons,
    )


def _explained(request: PlanRequest, made: Decision, others: Sequence[Alternative]) -> tuple[tuple[str, ...], int]:
    """Why, line by line; and the size in matrix parameters that the corpus supports."""
    offer, unique, law = made.offer, request.text_bytes, made.law
    sizes = {matrix_parameters(shaped(request.base, *rung)) for rung in LADDER}
    sizes = sorted({*sizes, matrix_parameters(offer.config)})
    of_corpus, supported = advice.corpus_advice(law, unique, offer.seen / unique, sizes)
    if request.budget.kind == "bits_per_byte":
        why = advice.time_advice(offer.config, offer.seconds, others)
    else:
        why = advice.size_advice(offer.config, offer.predicted(law, unique), others, fixed=request.fixed_size)
    lines = [
        why,
        of_corpus,
        *request.reasons,
        advice.batch_advice(law, made.batch_rows * request.context_length),
        advice.vocabulary_advice(offer.config),
        advice.pace_advice(made.eager),
        *made.reasons,
    ]
    if made.limit is not None and offer.seconds > 1.05 * made.limit:
        lines.append("validations and checkpoints take more of this budget than the steps: it will be exceeded")
    if offer.micro_rows < made.batch_rows:
        lines.append(f"{offer.micro_rows} rows are computed at a time, so that a step fits into memory")
    return tuple(line for line in lines if line), supported
