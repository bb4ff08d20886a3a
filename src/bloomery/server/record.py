"""Record: what is known of a request that is over; what the request store, the drift watch and traces read.

It holds content as token ids, which whoever may keep content turns into text. This module does not know who reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BloomeryError
from bloomery.core.ledger import Ledger
from bloomery.core.quantity import Quantity

if TYPE_CHECKING:
    from bloomery.engine import GenerationResult

log = logging.getLogger("bloomery.server")


@dataclass(frozen=True, kw_only=True)
class Record:
    """`time` is when the request came (seconds since 1970); all else that ends in `_seconds` is a duration."""

    id: str
    route: str
    model: str
    tenant: str
    status: int
    time: float
    seconds: float
    """From arrival to the end."""
    queue_seconds: float = 0.0
    first_token_seconds: float | None = None
    """From arrival to the first token; None: there was none."""
    prompt_ids: Sequence[Sequence[int]] = ()
    answers: Sequence[GenerationResult] = ()
    """The choices that came to an end and were told, in their order."""
    completion_tokens: int = 0
    """Of all that was drawn, told or not."""
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    cached_tokens: int = 0
    energy: Quantity = field(default_factory=Quantity.unknown)
    private: bool = False
    """The client asked, with `store: false`, that its content is not kept."""
    decode: Callable[[Sequence[int], bool], str] = field(default=lambda ids, special: "", repr=False)
    """Token ids to text, with special tokens or without."""

    embed: Callable[[Sequence[int]], Any] = field(default=lambda ids: None, repr=False)
    """Token ids to a vector (D,) of what the text is about; None where there is none."""

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompt_ids))

    @property
    def texts(self) -> list[tuple[str, Sequence[int]]]:
        """The answers: text and token ids."""
        return [(answer.text, answer.token_ids) for answer in self.answers]

    @property
    def finish_reasons(self) -> list[str]:
        return [answer.finish_reason for answer in self.answers]

    def prompts(self) -> list[str]:
        """The prompts as the model read them."""
        return [self.decode(ids, True) for ids in self.prompt_ids]


Reader = Callable[[Record], None]
"""Is told of each request when it is over, in whichever thread ends it."""


def tell(readers: Sequence[Reader], record: Record) -> None:
    """Tell each; the answer matters more to the client than our books, so what goes wrong is only logged."""
    for reader in readers:
        try:
            reader(record)
        except BloomeryError as error:
            log.error("request %s is missing from the books: %s", record.id, error.one_line())
        except Exception:
            log.exception("request %s is missing from the books", record.id)


def ledger_reader(ledger: Ledger) -> Reader:
    """Writes each request's row into the ledger: what it cost, and no content."""

    def write_down(record: Record) -> None:
        ledger.add_request(
            request=record.id,
            route=record.route,
            model=record.model,
            status=record.status,
            prompt_tokens=record.prompt_tokens,
            completion_tokens=record.completion_tokens,
            seconds=record.seconds,
            energy_joules=record.energy,
            tenant=record.tenant,
        )

    return write_down
