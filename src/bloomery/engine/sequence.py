"""Sequence: one text on its way through the engine: its tokens, how far they were read, and where its memory is.

A `Request` is what was asked for; its sequences are the samples of one prompt. This module does not know who decides
what is computed (see `scheduler`) nor how (see `runner`).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from bloomery.engine.blocks import HashChain, Table
from bloomery.engine.generation import Generation
from bloomery.models.adapter import Adapter

_numbers = itertools.count(1)


class Embedder(Protocol):
    """What a prompt is read as that is not tokens only: pictures, say."""

    def pending(self, start: int, end: int) -> int:
        """How many pictures of the positions from .. to are still to be encoded."""
        ...

    def encode(self, start: int, end: int) -> None:
        """Encode them."""
        ...

    def __call__(self, start: int, end: int) -> Tensor:
        """Embeddings (1, T, E) of the positions from .. to."""
        ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for: `generations` are the samples of one prompt, each with its own parameters."""

    prompt_ids: Items[int]
    generations: Items[Generation]
    priority: int = 0
    """Smaller is sooner; equal ones in the order of their arrival, and tenants in turn."""
    deadline: float | None = None
    """When, in `time.perf_counter()`'s seconds, the request ends whether it is done or not."""
    tenant: str = ""
    """Only sequences of the same tenant share what they have read."""
    shares: bool = True
    """Whether what is read may be found by later requests, and theirs by this one."""
    scores_from: int = 0
    """Tokens of a scored prompt before which no log-probabilities are wanted: they need not be read again if they are
    known. Who shares so has a tenant of its own for it, whose prompts are all read in the same parts."""
    adapter: Adapter | None = None
    """What is added to the model's weights for this request; keys and values are shared with requests of the same."""
    embed: Embedder | None = None
    """For prompts that are not tokens only."""
    key_ids: Items[int] | None = None
    """What the prompt is known by to later requests, a number a position, where its ids do not say all that is read:
    numbers below zero stand for nobody's tokens."""
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def scores_prompt(self) -> bool:
        return any(one.params.prompt_logprobs is not None for one in self.generations)


@dataclass(eq=False)
class SequenceState:
    """One text. `ids` are the prompt and the new tokens, of which `read` have their keys and values in memory."""

    request: Request
    generation: Generation
    ids: list[int]
    siblings: list[SequenceState] = field(default_factory=list)
    """Further samples of the same prompt, which begin once it has been read."""
    table: Table = field(default_factory=Table)
    read: int = 0
    begun: bool = False
    """Whether it was ever let in."""
    scored: int = 0
    """Prompt positions whose log-probabilities were told."""
    draft: list[int] = field(default_factory=list)
    """Guessed next tokens, to be checked in this step."""
    drafter: Any = None
    """Who guesses them; see `drafts`."""
    states: tuple[int, Any] | None = None
    """Of its last step the position of the first token read, and what the output head read of each (N, E), where
    guesses are made of that."""
    number: int = field(default_factory=lambda: next(_numbers))
    arrived: float = field(default_factory=time.perf_counter)
    chain: HashChain | None = None
    """The hashes of its full blocks, as far as they were asked for."""

    @property
    def unread(self) -> int:
        """Tokens that are still to be read before the next can be chosen."""
        return len(self.ids) - self.read

    @property
    def is_decoding(self) -> bool:
        return self.unread == 1 and self.read >= self.num_prompt

    @property
    def num_prompt(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def expires(self) -> bool:
        deadline = self.request.deadline
        return deadline is not None and time.perf_counter() >= deadline

    def hashes(self, block_size: int, blocks: int) -> list[bytes]:
        """The hashes of the first `blocks` full blocks."""
        if self.chain is None:
            # Keys of texts with another reach are turned otherwise, and another adapter computes others.
            reach, adapter = self.table.reach, self.request.adapter
            owner = f"{self.request.tenant}\0{reach}" if reach else self.request.tenant
            owner = owner if adapter is None else f"{owner}\0adapter {adapter.digest}"
            self.chain = HashChain(owner, block_size)
        keys = self.request.key_ids
        return self.chain.of(self.ids if keys is None else [*keys, *self.ids[self.num_prompt :]], blocks)

    def family(self) -> Iterator[SequenceState]:
        """This one and its siblings that wait for it."""
        yield self
        yield from self.siblings
