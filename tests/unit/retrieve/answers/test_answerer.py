"""Retrieval as an arm: an answerer like every other, with what it read in its details."""

from __future__ import annotations

import json

import pytest

from bloomery.core.errors import RequestError
from bloomery.evaluate.sample import Answerer, Sample
from bloomery.retrieve.answers.answer import Answering
from bloomery.retrieve.answers.answerer import RagAnswerer

SAMPLE = Sample(
    id="s1", input="What was burned in the furnace: charcoal?", targets=("charcoal",), choices=("charcoal", "coke")
)


def test_it_answers_samples(retriever, scripted):
    model = scripted(lambda m: "It burned charcoal, never coke [1].")
    arm: Answerer = RagAnswerer(Answering(retriever, model))
    found = arm.answer(SAMPLE)
    assert found.sample_id == "s1" and found.text == "It burned charcoal, never coke." and not found.error
    assert "Answer with one of: charcoal; coke" in model.asked[0][0][-1]["content"]
    assert found.calls[0].text == "It burned charcoal, never coke [1]." and found.energy_joules.central == 2.0
    details = json.loads(json.dumps(found.details))
    assert details["passages"] and details["statements"][0]["citations"][0]["quote"] and details["found"]
    assert arm.name == "RAG (words, markers, scripted)"


def test_not_in_the_documents_is_an_answer(retriever):
    found = RagAnswerer(Answering(retriever), name="extracts").answer(Sample(id="a", input="Quarks?"))
    assert (found.text, found.details["why"], found.calls) == ("Not in the documents.", "search", ())


def test_what_one_sample_has_to_blame(retriever, scripted):
    def too_long(messages):
        raise RequestError("the prompt is too long", code="context_length_exceeded")

    def wrong_key(messages):
        raise RequestError("no such key", status=401)

    arm = RagAnswerer(Answering(retriever, scripted(too_long)))
    assert "too long" in arm.answer(SAMPLE).error
    assert "empty" in arm.answer(Sample(id="e", input=" ")).error

    def overloaded(messages):
        raise RequestError("come back later", status=503)

    several = RagAnswerer(Answering(retriever, scripted(overloaded)))
    assert ["later" in several.answer(SAMPLE).error for _ in range(9)] == [True] * 9
    with pytest.raises(RequestError, match="later"):  # the tenth in a row: the model is gone, not the samples wrong
        several.answer(SAMPLE)
    with pytest.raises(RequestError, match="key"):
        RagAnswerer(Answering(retriever, scripted(wrong_key))).answer(SAMPLE)
