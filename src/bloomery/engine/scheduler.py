"""Scheduler: which sequences run, how much of each is computed next, and who makes room when memory is short.

Every step advances all sequences that decode by a token, and reads a bounded part of the prompts of those that do not
yet, so that a long prompt holds nobody up for longer than that part takes (chunked prefill; Agrawal et al.,
arXiv 2308.16369). Of that part half is for the prompt that waits longest, and the rest for those that are nearest to
their end, which are read first: short requests begin soon, and long ones are never left. Who comes in the middle of a
step, and is short, can be let in there (`let_in`). If there is no room for a running sequence, the least urgent one
that came last gives its memory back and is read again later. This module does not know tensors or models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.engine.blocks import BlockPool, Copy, OutOfBlocks, Table
from bloomery.engine.sequence import SequenceState

_COMPANY_STEPS = 32
"""Where somebody was read or decoded beside a prompt, others may come again: for so many steps parts stay small."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How many and how much at a time."""

    max_running: int = 64
    """Sequences that are in memory at the same time."""
    prefill_tokens: int = 512
    """Prompt tokens of a step for one prompt that nobody is beside, nor was lately."""
    prefill_tokens_beside_others: int = 128
    """Prompt tokens of a step in which somebody decodes, or another prompt is read: they wait for them."""

    def __post_init__(self) -> None:
        for name in ("max_running", "prefill_tokens", "prefill_tokens_beside_others"):
            check_size(name, getattr(self, name))


def check_size(name: str, value: Any) -> None:
    """ConfigError for what is no whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} should be a whole number from 1, not {value!r:.40}")


@dataclass(kw_only=True)
class Plan:
    """One step: parts of prompts to read, sequences to advance by a token (and the guesses they have), and blocks whose
    content must be copied first."""

    prefill: list[tuple[SequenceState, int]] = field(default_factory=list)
    decode: list[SequenceState] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    def sequences(self) -> Iterator[SequenceState]:
        yield from (sequence for sequence, _ in self.prefill)
        yield from self.decode


class Scheduler:
    """See the module. Not thread-safe: the engine holds it."""

    def __init__(self, pool: BlockPool, config: SchedulerConfig) -> None:
        self.pool, self.config = pool, config
        self.waiting: list[SequenceState] = []
        self.running: list[SequenceState] = []
        self.preemptions = self.queried_tokens = self.hit_tokens = 0
        self._company = 0
        self._copies: list[Copy] = []

    def add(self, sequence: SequenceState) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: SequenceState) -> None:
        """It is done, or no longer wanted: its memory is free."""
        for queue in (self.waiting, self.running):
            if sequence in queue:
                queue.remove(sequence)
        self.pool.release(sequence.table)

    def plan(self) -> Plan:
        """What to compute next; empty if nobody is there. Memory for it is taken."""
        self._copies = []
        self._admit()
        plan = Plan(copies=self._copies)
        for sequence in sorted((s for s in self.running if s.is_decoding), key=_urgency):
            if sequence in self.running:  # another may have taken its memory meanwhile
                self._place_decode(plan, sequence)
        plan.decode = [s for s in plan.decode if s in self.running]
        config, reading = self.config, [s for s in self.running if not s.is_decoding]
        beside = bool(plan.decode) if len(reading) == 1 else len(reading) > 1
        self._company = _COMPANY_STEPS if beside else max(0, self._company - 1)
        room = config.prefill_tokens_beside_others if self._company else config.prefill_tokens
        for sequence, count in self._parts(reading, room):
            if sequence.request.scores_prompt:
                # The same parts whoever else is there: what is told depends on them in its last bit.
                part = self.scored_part
                count = min(part - sequence.read % part, sequence.unread)
            if sequence not in self.running:
                continue
            if self._room_for(sequence, sequence.read + count, may_preempt=not plan.decode and not plan.prefill):
                plan.prefill.append((sequence, count))
        return plan

    def let_in(self, room: int) -> Plan:
        """In the middle of a step: who came meanwhile and can be read whole, of `room` tokens in all. Nobody gives
        memory back for them. Prompts that are scored or have pictures are left for the next step."""
        self._copies = []
        plan = Plan(copies=self._copies)
        for sequence in sorted(self.waiting, key=self._turn()):
            if self._is_full or not self._fits(sequence):
                break
            known, _ = self.pool.known(self._prefix(sequence))
            odd = sequence.request.scores_prompt or sequence.request.embed is not None
            if odd or len(sequence.ids) - known * self.pool.block_size > room:
                continue
            self.waiting.remove(sequence)
            self._begin(sequence)
            if self._room_for(sequence, len(sequence.ids), may_preempt=False):
                plan.prefill.append((sequence, sequence.unread))
                room -= sequence.unread
                self._company = _COMPANY_STEPS
        return plan

    def read(self, sequence: SequenceState, count: int) -> None:
        """`count` more of its tokens are in memory; blocks that became full are remembered."""
        size, before = self.pool.block_size, sequence.read // self.pool.block_size
        sequence.read += count
        if sequence.request.shares:
            full = sequence.read // size
            for place, number in enumerate(sequence.hashes(size, full)[before:], before):
                self.pool.register(sequence.table, place, number)

    def fork(self, sequence: SequenceState) -> list[SequenceState]:
        """The prompt is read: its further samples begin, with the same memory."""
        begun, sequence.siblings = sequence.siblings, []
        for one in begun:
            one.table = self.pool.fork(sequence.table)
            one.read = sequence.read
            self.running.append(one)
        return begun

    def _admit(self) -> None:
        """Let in whoever is next while there is room, and put out who is less urgent than somebody without."""
        while self.waiting:
            following = min(self.waiting, key=self._turn())
            if self._is_full or not self._fits(following):
                lesser = [s for s in self.running if s.request.priority > following.request.priority]
                if not lesser:
                    return
                self._preempt(max(lesser, key=_urgency))
                continue
            self.waiting.remove(following)
            self._begin(following)

    def _turn(self) -> Callable[[SequenceState], tuple[int, int, int]]:
        """By what those who wait are let in: of equal priority, tenants in turn."""
        tenants = Counter(s.request.tenant for s in self.running)
        return lambda s: (s.request.priority, tenants[s.request.tenant], s.number)

    @property
    def _is_full(self) -> bool:
        return sum(1 + len(s.siblings) for s in self.running) >= self.config.max_running

    def _fits(self, sequence: SequenceState) -> bool:
        """Whether its tokens and the next one have room beside those that are running, one more block for each."""
        known, unowned = self.pool.known(self._prefix(sequence))
        needed = self.pool.blocks_for(len(sequence.ids) + 1) - known + unowned
        return not self.running or needed + len(self.running) <= self.pool.num_available

    def _prefix(self, sequence: SequenceState) -> list[bytes]:
        """Hashes of blocks that could be taken over: never the last token, for it has to be computed; of a prompt that
        is scored, whole parts of what is not, read as they would be read again."""
        request, size = sequence.request, self.pool.block_size
        most = len(sequence.ids) - 1
        if request.scores_prompt:
            most = request.scores_from // self.scored_part * self.scored_part
        if not request.shares or most < size or (request.scores_prompt and most % size):
            return []
        return sequence.hashes(size, most // size)

    @property
    def scored_part(self) -> int:
        """Tokens of a part of a prompt that is scored: the same whoever else is there."""
        return min(self.config.prefill_tokens, self.config.prefill_tokens_beside_others)

    def _begin(self, sequence: SequenceState) -> None:
        sequence.table.room = self.pool.blocks_for(sequence.num_prompt + sequence.generation.max_new_tokens)
        hashes = self._prefix(sequence)
        known = self.pool.match(hashes)
        if known and self.pool.num_available > len(known) + self.pool.num_blocks // 2:
            self._copies += self._copied(sequence, known)
        else:
            for block in known:
                sequence.table.add(block)
        sequence.read = len(sequence.table.blocks) * self.pool.block_size
        if hashes:
            self.queried_tokens += len(sequence.ids)
            self.hit_tokens += sequence.read
        if not sequence.begun:  # read again after it was put out, it would find its own
            sequence.generation.cached_tokens = sequence.read
            if sequence.request.scores_prompt and sequence.read:
                sequence.scored = sequence.read
                for one in sequence.family():
                    one.generation.unscored(sequence.read)
        sequence.begun = True
        self.running.append(sequence)

    def _copied(self, sequence: SequenceState, known: list[int]) -> list[Copy]:
        """Blocks of its own with the content of the known ones: where memory is plenty, all that a text has read lies
        in one run, which every later step reads in place; shared blocks lie where they were, and have to be put
        together each time."""
        self.pool.grow(sequence.table, len(known) * self.pool.block_size)
        self.pool.release(Table(list(known)))
        return list(zip(known, sequence.table.blocks, strict=True))

    def _parts(self, reading: list[SequenceState], room: int) -> list[tuple[SequenceState, int]]:
        """How much of whose prompt is read in a step, who is soonest done first. What is short is never cut: how it was
        read shows in the last bits, and these should not depend on who else is there."""
        if not reading:
            return []
        short = self.config.prefill_tokens_beside_others
        longest = min(reading, key=_urgency)
        kept = longest.unread if longest.unread <= short else min(longest.unread, max(1, room // 2))
        parts, room = [], room - kept
        for sequence in sorted(reading, key=lambda s: (s.request.priority, s.unread, s.number)):
            taken = kept if sequence is longest else 0
            left = sequence.unread - taken
            more = left if 0 < left <= short and not taken and room > 0 else min(left, max(0, room))
            if taken + more:
                parts.append((sequence, taken + more))
            room -= more
        return parts

    def _place_decode(self, plan: Plan, sequence: SequenceState) -> None:
        """Memory for the next token and its guesses, in a block of its own."""
        if not self._room_for(sequence, len(sequence.ids) + len(sequence.draft), may_preempt=True):
            return
        size = self.pool.block_size
        for place in range(sequence.read // size, len(sequence.table.blocks)):
            while True:
                try:
                    copy = self.pool.writable(sequence.table, place)
                    break
                except OutOfBlocks:
                    if not self._make_room(sequence):
                        return
            if copy is not None:
                plan.copies.append(copy)
        plan.decode.append(sequence)

    def _room_for(self, sequence: SequenceState, positions: int, *, may_preempt: bool) -> bool:
        while True:
            try:
                self.pool.grow(sequence.table, positions)
                return True
            except OutOfBlocks:
                if not may_preempt or not self._make_room(sequence):
                    return False

    def _make_room(self, sequence: SequenceState) -> bool:
        """Put out the least urgent sequence; False if that is the one that needs the room."""
        victim = max(self.running, key=_urgency)
        self._preempt(victim)
        return victim is not sequence

    def _preempt(self, victim: SequenceState) -> None:
        """It will be read again; what it had read may still be known by then."""
        self.running.remove(victim)
        self.pool.release(victim.table)
        victim.read = 0
        victim.draft = []
        self.waiting.append(victim)
        self.preemptions += 1


def _urgency(sequence: SequenceState) -> tuple[int, int]:
    """Smaller is sooner."""
    return sequence.request.priority, sequence.number
