"""Work: what asking and training take, in floating-point operations that are counted and not measured.

A budget ends where a count says so, and arms stand in an order of costs by counts: so the same machine decides the
same, whatever else it does, and so does a slower one. What was measured (processor time, joules, latency) is told
beside it and decides nothing. Counts are about right for a processor: a token takes two operations for each weight, and
a pass through a small model as long as two milliseconds at least. This module does not know arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.spent import Spent
from bloomery.evaluate.sample import Answered
from bloomery.models import ModelConfig
from bloomery.training.planner import step_flops

A_SECOND = 4e10
"""Operations that count as a second of a processor."""
PASS = 8e7
"""What a pass takes beside its arithmetic: Python, and weights that come from memory."""
READ_CHARACTER = 4e4
"""A character of a document that an index takes in."""
EMBEDDED_CHARACTER = 1e7
"""More, where it is embedded too: a quarter of a token, by a sentence encoder of some twenty million weights."""
JOULES = 2.5e-10
"""That count for an operation: ten watts a processor."""
_SERVER_READS, _SERVER_WRITES = 1000, 50
"""Tokens that count as a second at an endpoint, whose model nobody sees."""
_POSITIONS = 512
"""That a token looks back on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of a model, a token."""

    read: float = 0.0
    """In a prompt."""
    write: float = 0.0
    """In an answer: a pass of its own."""

    @property
    def learn(self) -> float:
        """In a training step: forward, and twice that backward."""
        return 3 * self.read

    def asked(self, prompt_tokens: float | None, completion_tokens: float | None) -> float:
        """Of tokens read and written; what was not told counts nothing."""
        return self.read * (prompt_tokens or 0) + self.write * (completion_tokens or 0)

    def answering(self, answers: Sequence[Answered]) -> float:
        """Of answers together, one pass each at least."""
        return sum(PASS + self.asked(one.prompt_tokens, one.completion_tokens) for one in answers)


def work_here(config: ModelConfig) -> Work:
    """Of a decoder on this machine."""
    read = step_flops(config, 1, min(config.context_length, _POSITIONS)) / 3
    return Work(read=read, write=read + PASS)


def work_elsewhere() -> Work:
    """Of an endpoint."""
    return Work(read=A_SECOND / _SERVER_READS, write=A_SECOND / _SERVER_WRITES)


def counted(operations: float) -> Spent:
    """So many operations, whose time and joules the clocks and meters tell."""
    return Spent(operations=operations)
