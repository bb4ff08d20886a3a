"""Tally: the calls behind one answer, each kept to be read, and what they took together.

Tokens, joules and seconds are summed; one call that does not tell makes the sum unknown, never smaller. This module
does not know prompts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.asking import ask_all, broke_down, for_all
from bloomery.core.budget import BudgetError
from bloomery.core.errors import BloomeryError, RequestError
from bloomery.core.messages import ChatAnswer, ChatModel, ChatOptions, Message
from bloomery.core.quantity import Quantity
from bloomery.evaluate.sample import Answered, Call, Sample


class SampleError(Exception):
    """This sample has no answer; the others may have. `failed`: by no fault of its own (see `Answered`)."""

    def __init__(self, message: str, *, failed: bool = False) -> None:
        super().__init__(message)
        self.failed = failed


class Tally:
    """What is asked of a model for one sample."""

    def __init__(self, model: ChatModel, sample: Sample) -> None:
        self.model, self.sample = model, sample
        self._calls: list[Call] = []
        self._answers: list[ChatAnswer] = []
        self._seconds = 0.0

    def ask(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """One call. SampleError for what this sample alone has to blame; errors that every other would meet go on."""
        try:
            answer = self.model.answer(messages, options)
        except BloomeryError as error:
            if _ends_all(error):
                raise
            raise SampleError(error.one_line(), failed=broke_down(error)) from error
        self._keep(messages, answer)
        self._seconds += answer.seconds
        return answer

    def ask_several(
        self, messages: Sequence[Message], several: Sequence[ChatOptions], *, concurrency: int = 1
    ) -> list[ChatAnswer]:
        """One call for each options, in their order; at most `concurrency` at a time."""
        if concurrency == 1:
            return [self.ask(messages, options) for options in several]
        began = time.perf_counter()
        found: dict[int, ChatAnswer] = {}
        missing: BloomeryError | None = None
        questions = ((number, messages, options) for number, options in enumerate(several))
        try:
            for asked in ask_all(self.model, questions, concurrency=concurrency):
                if isinstance(asked.error, BudgetError):
                    raise asked.error
                if asked.answer is None:
                    missing = asked.error or RequestError("no answer")
                else:
                    found[asked.key] = asked.answer
        except BloomeryError as error:
            if _ends_all(error):
                raise
            missing = error
        for number in sorted(found):
            self._keep(messages, found[number])
        self._seconds += time.perf_counter() - began
        if missing is not None:
            raise SampleError(missing.one_line(), failed=broke_down(missing))
        return [found[number] for number in range(len(several))]

    def _keep(self, messages: Sequence[Message], answer: ChatAnswer) -> None:
        kept = Call(messages=[dict(one) for one in messages], text=answer.text, cached=answer.cached)
        self._calls.append(kept)
        self._answers.append(answer)

    def answered(
        self,
        text: str | None,
        *,
        confidence: float | None = None,
        error: str = "",
        failed: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> Answered:
        """The answer with all that it took; None for a text that held no answer."""
        if text is None and not error:
            error = "what the model said holds no answer"
        joules = Quantity.exact(0.0, "counter") if self._answers else Quantity.unknown()
        for one in self._answers:
            joules = joules + one.usage.energy_joules
        return Answered(
            sample_id=self.sample.id,
            text="" if error else text or "",
            prompt_tokens=_sum([one.usage.prompt_tokens for one in self._answers]),
            completion_tokens=_sum([one.usage.completion_tokens for one in self._answers]),
            seconds=self._seconds,
            energy_joules=joules,
            calls=tuple(self._calls),
            confidence=None if error else confidence,
            error=error,
            failed=failed,
            details=details or {},
        )


def _ends_all(error: BloomeryError) -> bool:
    return for_all(error) or isinstance(error, BudgetError)


def _sum(numbers: Sequence[int | None]) -> int | None:
    if not numbers or any(number is None for number in numbers):
        return None
    return sum(number for number in numbers if number is not None)


def seed_for(seed: int, *parts: object) -> int:
    """A seed (31 bits) of its own for each sample and draw; the same everywhere."""
    told = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(told.encode("utf-8", "backslashreplace")).digest()[:4], "big") >> 1
