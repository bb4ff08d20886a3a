"""Engine: runs requests together, step by step, with continuous batching over paged keys and values.

There is no thread of its own: whoever waits for a token makes the next step for everybody, the others wait for theirs
(Yu et al., OSDI 2022, for batching by step). A request that nobody waits for goes on as long as somebody waits for
another. Samples of one prompt read it once and share its memory until they differ. This module does not know prompts
as text, nor HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DeviceError, nearest
from bloomery.engine.blocks import BlockPool, Table
from bloomery.engine.choices import Choice, choose
from bloomery.engine.drafts import Drafting
from bloomery.engine.engine_stats import EngineStats
from bloomery.engine.generation import Generation, StepView
from bloomery.engine.metering import Bench, Phase, Step
from bloomery.engine.opening import opened
from bloomery.engine.results import Delta, FinishReason
from bloomery.engine.runner import Decoding, Runner
from bloomery.engine.sampling import LogProbabilities, log_probabilities
from bloomery.engine.scheduler import Scheduler, SchedulerConfig, check_size
from bloomery.engine.sequence import Request, SequenceState
from bloomery.engine.static_steps import STATIC, check_static
from bloomery.engine.ticket import Ticket, Told


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Raises ConfigError for a value that is none."""

    block_size: int = 16
    """Positions of a block of key/value memory."""
    cache_tokens: int | None = None
    """Positions of key/value memory in all; None: what `max_running` texts as long as the context need, or two fifths
    of the memory that is free (half on a GPU), whichever is less."""
    cache_dtype: str = "auto"
    """"auto", "float16", or "int8" with a scale for each position and head. "auto": as the weights; float16 beside
    packed weights of 16 bits and fewer, where native code makes the steps."""
    prefix_cache: bool = True
    """Remember what was read for prompts that begin alike."""
    drafts: str = "off"
    """"ngram" guesses what comes next from what stood there before; texts stay the same."""
    draft_tokens: int | None = None
    """Guesses of one step, at most; None: 16 from the text itself, 8 of a model, each of which is a step of it."""
    native: str = "auto"
    """"auto": steps in native code where it is built, right and faster on this model; "on": where it is right, else an
    error; "off": in PyTorch."""
    prefer: str = "speed"
    """"energy": native steps of decoding take the threads, and let them wait awake or not, that measure the fewest
    joules a token here (seconds of trying, before the first request); texts stay the same."""
    static_steps: str = "off"
    """How the steps in which everybody decodes one token are asked for: operator by operator ("off"), as CUDA graphs
    ("graph", which no GPU has run yet) or compiled ("compile": minutes for each size at first)."""
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)

    def __post_init__(self) -> None:
        if self.cache_dtype not in ("auto", "float16", "int8"):
            raise ConfigError(f"unknown cache_dtype {self.cache_dtype!r}", hint='"auto", "float16" or "int8"')
        if self.drafts not in ("off", "ngram"):
            raise ConfigError(f"unknown drafts {self.drafts!r}", hint='"off" or "ngram"')
        if self.native not in ("auto", "on", "off"):
            raise ConfigError(f"unknown native {self.native!r}", hint='"auto", "on" or "off"')
        if self.prefer not in ("speed", "energy"):
            raise ConfigError(f"unknown prefer {self.prefer!r}", hint='"speed" or "energy"')
        if self.static_steps not in STATIC:
            raise ConfigError(f"unknown static_steps {self.static_steps!r}", hint=nearest(self.static_steps, STATIC))
        sizes = {"block_size": self.block_size, "cache_tokens": self.cache_tokens, "draft_tokens": self.draft_tokens}
        for name, value in sizes.items():
            if value is not None:
                check_size(name, value)


class Engine:
    """See the module. Safe to use from several threads."""

    def __init__(
        self,
        decoder: Decoding,
        bench: Bench,
        config: EngineConfig | None = None,
        *,
        drafting: Drafting | None = None,
    ) -> None:
        """`drafting` makes who guesses tokens, if it is given; else the config says who."""
        self.config = config or EngineConfig()
        kind = self.config.drafts
        self.drafting = drafting or (None if kind == "off" else Drafting(kind, self.config.draft_tokens))
        self._decoder, self._bench = decoder, bench
        if self.config.static_steps != "off":
            check_static(self.config.static_steps, decoder.config, next(decoder.parameters()).device)
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._stepping = False
        self._waiting: dict[Ticket, None] = {}
        self._leaving: list[Ticket] = []
        self._tickets: dict[SequenceState, Ticket] = {}
        self._runner: Runner | None = None
        self._scheduler: Scheduler | None = None
        self._drafted = self._accepted = self._steps = self._native_steps = 0
        self._path = ""

    @property
    def scheduler(self) -> Scheduler:
        """Made with its memory when the first request comes."""
        if self._scheduler is None:
            states = self.drafting is not None and self.drafting.reads_states
            made = opened(self._decoder, self.config, self._bench.meter, keeps_states=states)
            self._runner, self._scheduler, self._path = made
        return self._scheduler

    @property
    def runner(self) -> Runner:
        """Made with its memory if there is none."""
        assert self.scheduler and self._runner
        return self._runner

    @property
    def capacity(self) -> int:
        """Positions of the longest text that there is memory for."""
        if self._scheduler is not None:
            pool = self._scheduler.pool
            return pool.num_blocks * pool.block_size
        given, size = self.config.cache_tokens, self.config.block_size
        return self._decoder.config.context_length if given is None else -(-given // size) * size

    def stats(self) -> EngineStats:
        """Counts so far. Waits for nobody and takes no memory; in the middle of a step a count may lack that step."""
        scheduler = self._scheduler
        if scheduler is None:
            return EngineStats()
        pool = scheduler.pool
        return EngineStats(
            cache_usage=min(1.0, max(0.0, pool.num_used / pool.num_blocks)),
            prefix_queries=scheduler.queried_tokens,
            prefix_hits=scheduler.hit_tokens,
            preemptions=scheduler.preemptions,
            drafted=self._drafted,
            accepted=self._accepted,
            native_steps=self._native_steps,
            decode_steps=self._steps,
            decode_path=self._path,
        )

    def run(self, request: Request) -> Iterator[tuple[int, Delta]]:
        """(sample, delta) pairs until every sample has its result. Closing the iterator ends the work.

        DeviceError if the request can never fit the memory; other errors are those of the model.
        """
        return self.run_all([request])

    def run_all(self, requests: Sequence[Request]) -> Iterator[tuple[int, Delta]]:
        """The same for several requests that begin together; samples are counted through all of them."""
        ticket = self._enter(requests)
        try:
            while True:
                with self._condition:
                    if ticket.ready:
                        item = ticket.ready.popleft()
                    elif ticket.error is not None:
                        raise ticket.error
                    elif not ticket.unfinished:
                        return
                    elif self._stepping:
                        self._waiting[ticket] = None
                        ticket.wake.wait()
                        self._waiting.pop(ticket, None)
                        continue
                    else:
                        self._stepping = True
                        item = None
                if item is not None:
                    yield item
                else:
                    self._lead()
        finally:
            self._leave(ticket)

    @contextmanager
    def exclusive(self, phase: Phase | None = None) -> Iterator[tuple[Runner, BlockPool]]:
        """Between the steps of requests: the runner, and the pool, to take blocks of; `phase` counts the step."""
        with self._condition:
            pool = self.scheduler.pool
            while self._stepping:
                self._condition.wait()
            self._stepping = True
        try:
            with self._bench.step() as step:
                yield self.runner, pool
            if phase is not None:
                phase.add(step.seconds)
        finally:
            with self._condition:
                self._rest()

    @contextmanager
    def paused(self, *, empty: bool = False) -> Iterator[None]:
        """Between the steps of requests: the model may be changed. With `empty` only if there are no requests, and what
        is known of earlier texts is forgotten; ConfigError if there are."""
        with self._condition:
            while self._stepping:
                self._condition.wait()
            held = self._scheduler is not None and self._scheduler.pool.num_used  # by beams, which have no ticket
            if empty and (self._tickets or held):
                raise ConfigError("requests are running, which the model's weights must not change under")
            self._stepping = True
        try:
            with self._bench.turns.take():
                if empty and self._scheduler is not None:
                    self._scheduler.pool.forget()
                    if self._runner is not None and self._runner.static is not None:
                        self._runner.static.forget()
                yield
        finally:
            with self._condition:
                self._rest()

    def _enter(self, requests: Sequence[Request]) -> Ticket:
        families = [[self._state(request, one) for one in request.generations] for request in requests]
        sequences = [one for family in families for one in family]
        ticket = Ticket(sequences, threading.Condition(self._lock))
        with self._condition:
            pool = self.scheduler.pool
            for one in ticket.sequences:
                positions = one.num_prompt + max(0, one.generation.max_new_tokens - 1)
                if pool.blocks_for(positions) > pool.num_blocks:
                    raise DeviceError(
                        f"no memory for the keys and values of {positions:,} tokens",
                        hint=f"there is room for {pool.num_blocks * pool.block_size:,}: ask for fewer new tokens",
                    )
            for first, *siblings in families:
                first.siblings = siblings
                self.scheduler.add(first)
            self._tickets.update((one, ticket) for one in ticket.sequences)
        return ticket

    def _state(self, request: Request, generation: Generation) -> SequenceState:
        # Samples share the prompt's keys: what the longest of them may come to counts for all.
        new = max(one.max_new_tokens for one in request.generations)
        reach = self._decoder.config.reach(len(request.prompt_ids) + max(0, new - 1))
        return SequenceState(request, generation, list(request.prompt_ids), table=Table(reach=reach))

    def _leave(self, ticket: Ticket) -> None:
        """Never waits: an iterator that nobody has any more is closed wherever the garbage collector comes by, in the
        thread that is making a step, too."""
        with self._condition:
            self._waiting.pop(ticket, None)
            self._leaving.append(ticket)
            if not self._stepping:  # else the step may write into its memory
                self._rest()  # it may have been the one that was woken to make the next step

    def _lead(self) -> None:
        """Make one step for everybody."""
        told, idle = list[Told](), False
        try:
            idle = not self._step(told)
        finally:
            with self._condition:
                self._deliver(told)
                self._rest()
                if idle:  # beams have the memory: after their next step there may be more
                    self._condition.wait(0.01)

    def _deliver(self, told: list[Told]) -> None:
        for one, delta in told:
            ticket = self._tickets.get(one)
            if ticket is not None:
                ticket.tell(one, delta)
            if delta.result is not None:
                self._drop(one)
        told.clear()

    def _rest(self) -> None:
        """A step is over: wake who has something to read, and one who has not, to make the next. Not everybody: with
        many connections that would cost more than the step."""
        while self._leaving:
            for one in self._leaving.pop().sequences:
                self._drop(one)
        self._stepping = False
        self._condition.notify_all()
        self._wake()
        others = [ticket for ticket in self._waiting if not ticket.has_news]
        if others:  # whoever makes the step reads its own news last: best one who will have none soon
            max(others, key=lambda ticket: ticket.unread).wake.notify()

    def _wake(self) -> None:
        for ticket in self._waiting:
            if ticket.has_news:
                ticket.wake.notify()

    def _step(self, told: list[Told]) -> bool:
        """Compute the next plan; what is told is added to `told`, whatever happens later. Whether it was any."""
        with self._condition:  # requests come and go between steps, never during one
            told += self._ended()
            for one, _ in told:
                self.scheduler.remove(one)
            running = list(self.scheduler.running)
        for one in running:
            self._guarded([one], lambda one=one: self._guess(one))
        with self._condition:
            plan = self.scheduler.plan()
        runner = self.runner
        with torch.inference_mode():
            self._guarded(list(plan.sequences()), lambda: runner.copy(plan.copies))
            for one, count in plan.prefill:
                self._guarded([one], lambda one=one, count=count: self._prefill(one, count, told))
                self._tell(told)
            if plan.decode:
                self._guarded(plan.decode, lambda: self._decode(plan.decode, told))
        return bool(told or plan.prefill or plan.decode)

    def _tell(self, told: list[Told]) -> None:
        """In the middle of a step: a first token need not wait for what others are read in it."""
        if told:
            with self._condition:
                self._deliver(told)
                self._wake()

    def _let_in(self, step: Step, room: int) -> int:
        """In the middle of a step, between two layers of a part of a long prompt: read who came meanwhile with a short
        one, of `room` tokens in all, and tell their first tokens. Returns how many tokens that were."""
        scheduler, runner = self.scheduler, self.runner
        with self._condition:
            plan = scheduler.let_in(room)
        self._guarded(list(plan.sequences()), lambda: runner.copy(plan.copies))
        told: list[Told] = []
        for one, count in plan.prefill:
            self._guarded([one], lambda one=one, count=count: self._prefill(one, count, told, within=step))
            self._tell(told)
        return sum(count for _, count in plan.prefill)

    def _guarded(self, concerned: Sequence[SequenceState], work: Callable[[], None]) -> None:
        """An error ends the requests that were computed for, and no other: it is raised where they are waited for.
        An interrupt is nobody's error."""
        try:
            work()
        except BaseException as error:
            # llguidance's panics are no Exceptions.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            with self._condition:
                for one in concerned:
                    self._fail(one, error)

    def _ended(self) -> list[Told]:
        """Who ends without a further token: cancelled, or out of time."""
        told: list[Told] = []
        for one in self._tickets:
            reason: FinishReason | None = "cancelled" if one.request.cancel.is_set() else None
            reason = reason or ("deadline" if one.expires else None)
            if reason is not None and not one.generation.finished:
                told.append((one, one.generation.end(reason)))
        return told

    def _prefill(self, one: SequenceState, count: int, told: list[Told], within: Step | None = None) -> None:
        waiting, room = self.scheduler.waiting, count
        family = list(one.family())
        for member in family:
            member.generation.begin()
        choices: list[Choice] = []
        start, embed = one.read, one.request.embed
        if embed is not None and embed.pending(start, min(start + count, one.num_prompt)):
            with self._bench.step() as encoding:
                embed.encode(start, min(start + count, one.num_prompt))
            for member in family:
                member.generation.encoded(encoding.seconds, 1 / len(family))

        def between() -> None:
            nonlocal room
            if waiting and room:
                room -= self._let_in(step, room)

        with self._bench.step(within=within) as step:
            logits = self.runner.prefill(one, count, between if within is None else None)
            whole = start + count == len(one.ids)
            rows = None if logits is None else log_probabilities(logits)
            if rows is not None and one.request.scores_prompt and one.scored < one.num_prompt:
                self._score(family, rows, start)
            if logits is not None and rows is not None and whole:
                known = [LogProbabilities.of_all(rows[-1])]
                choices += [choose(member, logits[-1:], known) for member in family]
        for member in family:
            member.generation.spend(step.seconds, 1 / len(family))
        with self._condition:
            self.scheduler.read(one, count)
            if whole:
                self.scheduler.fork(one)
        view = StepView(phase="prefill", step_seconds=step.seconds, step_tokens=count, step_sequences=1)
        if whole:
            self._accept(choices, view, told)

    def _score(self, family: Sequence[SequenceState], rows: Tensor, start: int) -> None:
        """Tell the log-probabilities of the prompt's tokens, each once even if they are read again."""
        one = family[0]
        end = min(start + len(rows), one.num_prompt - 1)
        first = max(start, one.scored)
        for member in family:
            if member.generation.params.prompt_logprobs is not None and end > first:
                member.generation.score(rows[first - start : end - start], one.ids[first + 1 : end + 1])
        one.scored = max(one.scored, one.num_prompt if start + len(rows) >= one.num_prompt else end)

    def _decode(self, batch: Sequence[SequenceState], told: list[Told]) -> None:
        with self._bench.step() as step:
            choices = [choose(one, *rows) for one, rows in zip(batch, self.runner.decode(batch), strict=True)]
            self._steps += 1
            self._native_steps += self.runner.native is not None and not all(one.request.adapter for one in batch)
        sizes = [1 + len(one.draft) for one in batch]
        tokens = sum(sizes)
        for one, size in zip(batch, sizes, strict=True):
            one.generation.begin()
            one.generation.spend(step.seconds, size / tokens)
        view = StepView(phase="decode", step_seconds=step.seconds, step_tokens=tokens, step_sequences=len(batch))
        self._accept(choices, view, told)
        with self._condition:
            for choice in choices:
                # One whose sibling failed has no memory any more.
                if choice.error is None and choice.sequence in self._tickets:
                    self.scheduler.read(choice.sequence, choice.taken)

    def _accept(self, choices: Sequence[Choice], view: StepView, told: list[Told]) -> None:
        """Take the chosen tokens one by one, until an end."""
        for choice in choices:
            if choice.sequence not in self._tickets:
                continue
            one, generation = choice.sequence, choice.sequence.generation
            generation.prefilled()
            if choice.error is not None:
                with self._condition:
                    self._fail(one, choice.error)
                continue
            if generation.max_new_tokens == 0:
                told.append((one, generation.end("length")))
            if one.drafter is not None:
                right = max(0, len(choice.tokens) - 1)
                generation.drafted_tokens += len(one.draft)
                generation.accepted_tokens += right
                self._drafted += len(one.draft)
                self._accepted += right
                one.drafter.learn(len(one.draft), right)
                one.draft = []
            for place, (token, row) in enumerate(zip(choice.tokens, choice.logprobs, strict=True)):
                if choice.traces:
                    generation.traced(choice.traces[place], view)
                one.ids.append(token)
                choice.taken += 1
                told.append((one, generation.accept(token, row)))
                if generation.finished:
                    break

    def _guess(self, one: SequenceState) -> None:
        """Guess the tokens that follow a sequence that decodes, to be checked in the step."""
        if self.drafting is None or not one.is_decoding:
            return
        if one.drafter is None:
            one.drafter = self.drafting.drafter(one)
        generation = one.generation
        # The token that is drawn after the guesses comes with them.
        most = generation.max_new_tokens - generation.num_new - 1
        one.draft = []
        if most < 1:
            return
        with self._bench.step() if one.drafter.computes else self._bench.beside() as step:
            one.draft = one.drafter.guess(one, most)
        generation.spend(step.seconds, 1.0, steps=0)

    def _fail(self, one: SequenceState, error: BaseException) -> None:
        ticket = self._tickets.get(one)
        if ticket is not None:
            ticket.error = error
            for each in ticket.sequences:
                self._drop(each)

    def _drop(self, one: SequenceState) -> None:
        """It is over: its memory is free, and nobody waits for it any more."""
        if self._tickets.pop(one, None) is not None:
            self.scheduler.remove(one)
