"""RagAnswerer: retrieval and a model as one more arm of an evaluation. This module does not know scorers or tasks."""

from __future__ import annotations

from bloomery.core.asking import TOO_LONG
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

    @property
    def name(self) -> str:
        return self._name

    def answer(self, sample: Sample) -> Answered:
        """As the protocol says; a question that is too long for the model is this sample's alone to blame."""
        choose = "Answer with one of: " + "; ".join(sample.choices) if sample.choices else ""
        try:
            found = self.answering.answer(sample.input, self.filters, instruction=choose)
        except RequestError as error:
            if error.code != TOO_LONG and error.param != "question":
                raise
            return Answered(sample_id=sample.id, text="", error=error.one_line())
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
