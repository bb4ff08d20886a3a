"""The planner: a few shapes timed on this machine, a law asked what each would reach, the best taken and explained.

Shapes that were not timed are judged by a model of time (`timing`), and the one that is chosen is always timed itself
before the plan is made; where that changes the choice, it is made again. This module does not know where a law comes
from (`calibration`), nor how a plan is carried out (`pretrain`).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import torch

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.models import ModelConfig
from bloomery.training.planning.answer import Decision, answer
from bloomery.training.planning.batch import batch_rows, batch_rows_of_steps
from bloomery.training.planning.law import PASSES
from bloomery.training.planning.memory import available_memory, fitting_rows, parts_of
from bloomery.training.planning.offer import Offer, best_of
from bloomery.training.planning.plan import Plan, PlanRequest
from bloomery.training.planning.shapes import LADDER, matrix_parameters, shaped, total_parameters
from bloomery.training.planning.spending import Pace, seconds_of
from bloomery.training.planning.threads import advice_on_threads, choose_threads, may_choose_threads
from bloomery.training.planning.timing import Timed, checkpoint_rate, fit_step_times
from bloomery.training.preflight import trial_seconds
from bloomery.training.schedule import Schedule
from bloomery.training.speed import FewerThreads, StepTime, bfloat16_is_fast, compare_threads, measure_step

Say = Callable[[str], None]

_MIN_RUN_SECONDS_TO_COMPILE = 1200.0
_ROUNDS = 2  # in which the first shapes are timed: what disturbs one for a second does not spoil a shape
_CHOICES_OF_ROWS = 3
_STEPS = 300  # of a run that stands for all, where shares are asked for
# Places in the ladder that are timed first: small ones where a step takes a while, all sizes where overhead rules.
_TIMED_FIRST = {"cpu": (0, 2, 3), "cuda": (0, 3, 6, 9)}
_MEASURED_SHARE, _LEAST_MEASURED, _MOST_MEASURED = 0.02, 0.05, 4.0
_SLOW_STEP_SECONDS = 2.0


def plan(request: PlanRequest, *, meter: Meter | None = None, say: Say = lambda text: None) -> Plan:
    """Measure for a few seconds and plan. Raises ConfigError when the budget allows no step at all or a target cannot
    be reached, DeviceError when nothing fits into memory."""
    if request.tokens < 2 or request.text_bytes < 1:
        raise ConfigError("the training split is empty: there is nothing to plan for", hint="bloomery curate PATHS")
    if request.batch_rows % min(request.micro_rows or 1, request.batch_rows or 1):
        raise ConfigError(
            f"a batch of {request.batch_rows} rows cannot be cut into micro-batches of {request.micro_rows}",
            hint="pretrain.micro_rows that divides pretrain.batch_rows",
        )
    threads = torch.get_num_threads()
    try:
        return _Planning(request, meter, say).plan()
    finally:
        torch.set_num_threads(threads)


class _Planning:
    """One question on its way to an answer."""

    def __init__(self, request: PlanRequest, meter: Meter | None, say: Say) -> None:
        self.request, self.meter, self.say = request, meter, say
        self.reasons: list[str] = []
        self.precision = self._precision()
        self.began = time.perf_counter()
        self.available = available_memory(request.device)
        self.rows = request.batch_rows or self._first_rows()
        self.timed: dict[ModelConfig, StepTime] = {}
        self.rate = checkpoint_rate(request.folder)
        self.limit: float | None = None
        self.watts = Quantity.unknown()

    def plan(self) -> Plan:
        request = self.request
        self._time_first()
        if not self.timed:
            raise self._nothing()  # before anything is asked of watts that nobody has measured
        self.limit = seconds_of(request.budget, self.watts, request.energy)
        offer = self._with_rows()
        offers = tuple(self._offers())  # before their time and their power are those of fewer threads
        offer, eager = self._with_threads(offer)
        compiled, timing = self._compile(offer, eager)
        if compiled:
            pace = dataclasses.replace(offer.pace, step=timing.seconds, compiling=timing.compile_seconds)
            offer = self._bought(offer.config, offer.micro_rows, pace) or offer
        decision = Decision(
            offer=offer,
            timing=timing,
            eager=eager,
            threads=torch.get_num_threads(),
            precision=self.precision,
            batch_rows=self.rows,
            law=request.law.for_batch(self.rows * request.context_length),
            limit=self.limit,
            available_bytes=self.available,
            offers=offers,
            reasons=tuple(self.reasons),
        )
        made = answer(request, decision)
        return dataclasses.replace(made, planning_seconds=time.perf_counter() - self.began)

    def _first_rows(self) -> int:
        """Of a batch, before anything is known of the machine."""
        request = self.request
        if request.budget.kind == "steps":
            rows = batch_rows_of_steps(request.budget.steps, request.context_length)
            return min(rows, batch_rows(request.worth(math.inf), request.context_length))
        return batch_rows(0, request.context_length)

    def _with_rows(self) -> Offer:
        """The offer that is taken, with the batch that suits its tokens; another batch can change the offer."""
        request = self.request
        tried = {self.rows}
        for _ in range(_CHOICES_OF_ROWS):
            offer = self._fixed() if request.fixed_size else self._choose()
            if request.batch_rows or request.budget.kind == "steps":
                return offer
            run_tokens = request.worth(offer.steps * self.rows * request.context_length)
            rows = batch_rows(run_tokens, request.context_length)
            if rows in tried:
                return offer
            tried.add(rows)
            self.rows = rows
        return self._fixed() if request.fixed_size else self._choose()

    def _precision(self) -> str:
        if self.request.precision != "auto":
            return self.request.precision
        fast = bfloat16_is_fast(self.request.device)
        self.reasons.append(
            "bfloat16: measured faster than float32 here" if fast else "float32: bfloat16 is slower here"
        )
        return "bfloat16" if fast else "float32"

    # time

    def _time_first(self) -> None:
        """A few shapes, small ones first, in turn; none that is too large for the memory."""
        if self.request.fixed_size:
            if self._fits(self.request.base):
                self._time(self.request.base)
            return
        kind = self.request.device.type
        for number in range(_ROUNDS):
            for place in _TIMED_FIRST.get(kind, _TIMED_FIRST["cuda"]):
                config = shaped(self.request.base, *LADDER[place])
                if not self._fits(config) or (self.timed and self._seconds(config) > _SLOW_STEP_SECONDS / (number + 1)):
                    break
                self._time(config)

    def _time(self, config: ModelConfig, *, at_least_seconds: float | None = None) -> StepTime:
        request = self.request
        self.say(f"timing {config.num_hidden_layers} layers x {config.hidden_size}")
        budget = request.budget.minutes * 60 * _MEASURED_SHARE / 3
        least = min(_MOST_MEASURED / 3, max(_LEAST_MEASURED, budget)) / _ROUNDS
        timing = measure_step(
            config,
            rows=self.rows,
            micro_rows=self._fits(config),
            context_length=request.context_length,
            precision=self.precision,
            device=request.device,
            at_least_seconds=least if at_least_seconds is None else at_least_seconds,
            meter=self.meter,
            optimizer=request.optimizer,
            batches=request.batches,
            folder=request.folder if self._saves(config) else None,
            short_rows=request.short_rows_fraction > 0,
        )
        earlier = self.timed.get(config)
        if earlier is not None and (earlier.rows, earlier.micro_rows) == (timing.rows, timing.micro_rows):
            timing = timing.joined(earlier)
        self.timed[config] = timing
        self.watts = timing.watts
        return timing

    def _saves(self, config: ModelConfig) -> bool:
        """Whether a checkpoint of a shape is written to see how long that takes; once, and not a large one."""
        known = self.timed.get(config)
        seconds = self._state_bytes(config) / self.rate
        return (known is None or not known.save_seconds) and seconds < _MOST_MEASURED

    def _state_bytes(self, config: ModelConfig) -> float:
        """Of a checkpoint."""
        parameters, matrices = total_parameters(config), matrix_parameters(config)
        return 4.0 * (parameters + 2 * (parameters - matrices) + matrices)

    def _seconds(self, config: ModelConfig) -> float:
        """Of a step at the present batch: as timed, or by the model of what was."""
        timing = self.timed.get(config)
        if timing is not None and timing.rows == self.rows:
            return timing.seconds
        model = fit_step_times(
            [
                Timed(c, t.rows, t.context_length, self._parts(t.rows, t.micro_rows), t.seconds)
                for c, t in self.timed.items()
            ],
            self.request.optimizer,
        )
        parts = self._parts(self.rows, self._fits(config))
        return model.seconds(
            config,
            rows=self.rows,
            context_length=self.request.context_length,
            parts=parts,
            optimizer=self.request.optimizer,
        )

    def _parts(self, rows: int, micro_rows: int) -> int:
        return max(1, rows // max(1, micro_rows))

    def _fits(self, config: ModelConfig) -> int:
        """Rows that are computed at a time; 0 if not even one fits."""
        request = self.request
        asked = parts_of(self.rows, request.micro_rows)
        if request.micro_rows and request.fixed_size and config == request.base:
            return asked  # both are the user's, and preflight looks at the memory again
        part = fitting_rows(
            config,
            asked,
            context_length=request.context_length,
            precision=self.precision,
            device=request.device,
            available=self.available,
            optimizer=request.optimizer,
        )
        return part if part == asked or not request.micro_rows else 0

    def _pace(self, config: ModelConfig, settled: StepTime | None = None) -> Pace:
        """Of a shape as it was timed, or by the model of what was; or as has been settled since."""
        request, timing = self.request, settled or self.timed.get(config)
        step = settled.seconds if settled else self._seconds(config)
        # A forward pass is about a third of the work of both.
        row = timing.validation_seconds / timing.validation_rows if timing else step / self.rows / 3
        checkpoint = (timing.save_seconds if timing else 0.0) or self._state_bytes(config) / self.rate
        schedule = Schedule(total_steps=_STEPS, warmup_steps=0, decay_steps=0, first_batch=request.first_batch)
        rows, short = (schedule.batches_before(round(share * _STEPS)) for share in (1.0, request.short_rows_fraction))
        micro = self._fits(config) or self.rows
        return Pace(
            step=step,
            validation_row=row,
            batch_rows=self.rows,
            validations=request.validations if request.validation_tokens else 0,
            validation_rows=math.ceil(request.validation_tokens / request.context_length),
            checkpoint=checkpoint,
            checkpoint_every=request.checkpoint_seconds,
            checkpoint_every_steps=request.checkpoint_every_steps,
            whole_validations=request.whole_validations,
            rows_share=rows / _STEPS,
            short_saving=(1 - timing.short_cost) * short / rows if timing else 0.0,
            start=(timing.build_seconds + timing.first_seconds) if timing else step,
            trial=lambda steps: trial_seconds(step * micro / self.rows, steps),
            writing=checkpoint * 4 * total_parameters(config) / self._state_bytes(config),
        )

    # choice

    def _offer(self, config: ModelConfig) -> Offer | None:
        """What the budget buys with a shape; None if it buys nothing or does not fit."""
        micro_rows = self._fits(config)
        return self._bought(config, micro_rows, self._pace(config)) if micro_rows else None

    def _bought(self, config: ModelConfig, micro_rows: int, pace: Pace) -> Offer | None:
        request, unique = self.request, self.request.text_bytes
        parameters = matrix_parameters(config)
        bytes_a_step = self.rows * pace.rows_share * request.context_length * unique / request.tokens
        if request.budget.kind == "steps":
            steps = request.budget.steps
        elif self.limit is not None:
            steps = pace.steps_within(self.limit)
        else:
            data = request.law.data_for(request.budget.bits_per_byte, parameters, unique)
            steps = 0 if data is None else max(1, math.ceil(data / bytes_a_step))
        if steps < 1:
            return None
        seen = steps * bytes_a_step
        return Offer(config, micro_rows, pace, steps, seen, request.law.expected(parameters, seen, unique))

    def _offers(self) -> list[Offer]:
        found = (self._offer(shaped(self.request.base, *rung)) for rung in LADDER)
        return [offer for offer in found if offer is not None]

    def _choose(self) -> Offer:
        """The best shape of the ladder, timed; timing it can change which one that is."""
        for _ in range(len(LADDER) + 1):
            offer = self._best(self._offers())
            timing = self.timed.get(offer.config)
            if timing is not None and timing.rows == self.rows:
                return offer
            self._time(offer.config, at_least_seconds=min(_MOST_MEASURED, _MEASURED_SHARE * offer.seconds))
        raise AssertionError("every rung was timed and none chosen")

    def _best(self, offers: Sequence[Offer]) -> Offer:
        if not offers:
            raise self._nothing()
        return best_of(offers, self.request.budget.kind)

    def _fixed(self) -> Offer:
        if not self._fits(self.request.base):
            raise self._nothing()
        offer = self._offer(self.request.base)
        if offer is None:
            raise self._nothing()
        timing = self.timed[offer.config]
        wanted = min(_MOST_MEASURED, _MEASURED_SHARE * offer.seconds)
        if timing.rows != self.rows or wanted > 6 * timing.seconds:
            self._time(offer.config, at_least_seconds=wanted)
            return self._offer(offer.config) or offer
        return offer

    def _nothing(self) -> ConfigError | DeviceError:
        request = self.request
        smallest = request.base if request.fixed_size else shaped(request.base, *LADDER[0])
        if not self._fits(smallest):
            return DeviceError(
                f"not even one row of {request.context_length} tokens fits into {self.available / 1e9:.1f} GB",
                hint="a smaller model, or pretrain.context_length",
            )
        if request.budget.kind == "bits_per_byte":
            sizes = [matrix_parameters(shaped(request.base, *rung)) for rung in LADDER]
            sizes = [matrix_parameters(request.base)] if request.fixed_size else sizes
            best = min(request.law.expected(size, PASSES * request.text_bytes, request.text_bytes) for size in sizes)
            return ConfigError(
                f"{request.budget.bits_per_byte:g} bits per byte cannot be expected of this corpus: after 40 passes the"
                f" best shape reaches {best:.2f}",
                hint="a higher target, or more text",
            )
        return ConfigError(
            f"one step takes about {self._seconds(smallest):.2g} s: {request.budget.text()} allow none",
            hint="a larger budget, or a smaller model or batch",
        )

    # threads and compiling

    def _with_threads(self, offer: Offer) -> tuple[Offer, StepTime]:
        """The offer with as many threads as are fastest, which PyTorch then has, and the time of its steps."""
        request, timing = self.request, self.timed[offer.config]
        if not may_choose_threads(request):
            self.reasons += advice_on_threads(request)
            return offer, timing

        def compare(more: int, fewer: int, seconds: float) -> FewerThreads:
            self.say(f"timing {fewer} of {more} threads")
            return compare_threads(
                offer.config,
                more,
                fewer,
                rows=self.rows,
                micro_rows=offer.micro_rows,
                context_length=request.context_length,
                precision=self.precision,
                device=request.device,
                within_seconds=seconds,
                meter=self.meter,
                optimizer=request.optimizer,
                batches=request.batches,
            )

        most = min(_MOST_MEASURED, _MEASURED_SHARE * offer.seconds)
        threads, faster, said = choose_threads(timing, most, compare)
        self.reasons.append(said)
        if threads == torch.get_num_threads():
            return offer, timing
        torch.set_num_threads(threads)
        self.limit = seconds_of(request.budget, faster.watts, request.energy)
        return self._bought(offer.config, offer.micro_rows, self._pace(offer.config, faster)) or offer, faster

    def _compile(self, offer: Offer, eager: StepTime) -> tuple[bool, StepTime]:
        """torch.compile if the run is long enough and measuring it shows that it wins back its compiling time."""
        request, total = self.request, offer.seconds
        if request.compile == "off":
            return False, eager
        worth_trying = request.device.type == "cuda" or total >= _MIN_RUN_SECONDS_TO_COMPILE
        if request.compile == "auto" and not worth_trying:
            self.reasons.append(
                "not compiled: measuring torch.compile costs a minute or more, the whole run is"
                f" {total / 60:.1f} minutes"
            )
            return False, eager
        try:
            timing = measure_step(
                offer.config,
                rows=self.rows,
                micro_rows=offer.micro_rows,
                context_length=request.context_length,
                precision=self.precision,
                device=request.device,
                compiled=True,
                meter=self.meter,
                optimizer=request.optimizer,
                batches=request.batches,
            )
        except Exception as error:
            if request.compile == "on":
                said = " ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
                raise DeviceError(
                    f"torch.compile fails here: {said:.200}",
                    hint="pretrain.compile=off, or auto",
                ) from error
            # No compiler, no Triton, an operator it cannot lower: all of these only mean that it is not used.
            self.reasons.append(f"not compiled: torch.compile failed here ({type(error).__name__})")
            return False, eager
        gain = total * (1 - timing.seconds / eager.seconds) - timing.compile_seconds
        used = gain > 0 or request.compile == "on"
        self.reasons.append(
            f"torch.compile: {timing.seconds:.3f} s a step against {eager.seconds:.3f}, {timing.compile_seconds:.0f} s"
            f" to compile: {'used' if used else 'not used'}"
        )
        return used, timing if used else eager
