"""RagAnswerer: retrieval and a model as one more arm of an evaluation. This module does not know scorers or tasks."""

from __future__ import annotations

import threading

from bloomery.core.asking import FAILURES_IN_A_ROW, TOO_LONG, for_all
from bloomery.core.errors import RequestError
from bloomery.evaluate.sample import Answered, Call, Sample
from bloomery.retrieve.answers.answer import Answering, passage_data
from bloomery.retrieve.chunk import Filters


class RagAnswerer:
    """An `evaluate.sample.Answerer`. Choices are listed under the question. `details` has `passages`, `statements`
    with their citations, `found` and `why`; `text` has no numbers of passages, and is "Not in the documents." where
    these do not answer."""

    def __init__(self, answering: Answering, *, name: str = "", filters: Filters | None = None) -> None:
        self.answering, self.filters = answering, filters
        self._name = name or f"RAG ({answering.name})"
        self._lock = threading.Lock()
        self._failed = 0

    @property
    def name(self) -> str:
        return self._name

    def answer(self, sample: Sample) -> Answered:
        """As the protocol says: what a request fails with is this sample's error. RequestError for what every other
        would meet too, and for the last of so many failures in a row that the model seems to be gone; a question that
        is too long, or empty, is none of these."""
        choose = "Answer with one of: " + "; ".join(sample.choices) if sample.choices else ""
        try:
            found = self.answering.answer(sample.input, self.filters, instruction=choose)
        except RequestError as error:
            if self._ends_all(error):
                raise
            return Answered(sample_id=sample.id, text="", error=error.one_line())
        with self._lock:
            self._failed = 0
        usage = found.usage
        return Answered(
            sample_id=sample.id,
            text=" ".join(one.text for one in found.statements) if found.statements else found.text,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=found.seconds,
            energy_joules=usage.energy_joules,
            calls=(Call(messages=found.messages, text=found.said),) if found.messages else (),
            confidence=found.probability,
            details={
                "passages": [passage_data(n, one) for n, one in enumerate(found.passages, 1)],
                "statements": [one.to_dict() for one in found.statements],
                "found": found.found,
                "why": found.why,
                "supported": found.supported,
            },
        )

    def _ends_all(self, error: RequestError) -> bool:
        if error.code == TOO_LONG or error.param == "question":
            return False
        with self._lock:
            self._failed += 1
            return for_all(error) or self._failed >= FAILURES_IN_A_ROW
