"""Asking: many questions of one model, so many at a time, answers as they come.

A mistake that every question would meet (a wrong key, no such model) ends it at once; so do failures in a row. This
module does not know models, nor what becomes of the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from bloomery.core.errors import BloomeryError, RequestError
from bloomery.core.messages import ChatAnswer, ChatModel, ChatOptions, Message

K = TypeVar("K")
MAX_CONCURRENCY = 256
TOO_LONG = "context_length_exceeded"
"""The code of an error that a question alone has to blame."""
_FOR_ALL = frozenset({301, 302, 307, 308, 401, 402, 403, 404, 405})
_PASSING = frozenset({408, 409, 425, 429})
FAILURES_IN_A_ROW = 10
"""So many, and the model seems to be gone."""


@dataclass(frozen=True)
class Asked(Generic[K]):
    """A question with its answer, or with why there is none."""

    key: K
    answer: ChatAnswer | None
    error: BloomeryError | None


def ask_all(
    model: ChatModel,
    questions: Iterable[tuple[K, Sequence[Message], ChatOptions]],
    *,
    concurrency: int = 1,
    failures_in_a_row: int = FAILURES_IN_A_ROW,
) -> Iterator[Asked[K]]:
    """Answers in the order in which they come; at most `concurrency` questions are under way, and none is read before
    there is room for it.

    Raises what a question met that every other would meet too, and the last of so many failures in a row that the model
    seems to be gone (a question that is too long is none of them), once what was under way has been told.
    """
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise RequestError(f"concurrency should be from 1 to {MAX_CONCURRENCY}, not {concurrency}", param="concurrency")
    waiting = iter(questions)
    failed = 0
    fatal: BloomeryError | None = None
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ask")
    running: dict[Future[ChatAnswer], K] = {}
    try:
        while True:
            while fatal is None and len(running) < concurrency and (one := next(waiting, None)) is not None:
                key, messages, options = one
                running[pool.submit(model.answer, messages, options)] = key
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                asked = _asked(running.pop(future), future)
                failed = _failures(failed, asked.error)
                if fatal is None and asked.error is not None and (failed >= failures_in_a_row or for_all(asked.error)):
                    fatal = asked.error  # what is under way is still waited for, and told: it was paid for
                else:
                    yield asked
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if fatal is not None:
        raise fatal


def _asked(key: K, future: Future[ChatAnswer]) -> Asked[K]:
    try:
        return Asked(key, future.result(), None)
    except BloomeryError as error:
        return Asked(key, None, error)


def for_all(error: BloomeryError) -> bool:
    """Whether every other question would meet it too."""
    return isinstance(error, RequestError) and error.status in _FOR_ALL


def broke_down(error: BloomeryError) -> bool:
    """Whether it is the server's, or of the way to it: the same question may have an answer later."""
    return isinstance(error, RequestError) and (error.status >= 500 or error.status in _PASSING)


def _failures(before: int, error: BloomeryError | None) -> int:
    """How many failed in a row, this one included."""
    if error is None:
        return 0
    return before if isinstance(error, RequestError) and error.code == TOO_LONG else before + 1
