"""Documents, a retriever that counts words, and chat models that say what a test wrote for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import pytest

from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage, gathered
from bloomery.core.quantity import Quantity
from bloomery.retrieve.chunk import Chunk, Filters, Hit

DOCUMENTS = {
    "furnace": (
        "The furnace at Alderley was lit on 3 May 1874. It burned charcoal, never coke. "
        "Its bloom weighed 41 kilograms, and three smiths were needed to lift it."
    ),
    "bridge": "The bridge at Coalbrookdale has five ribs of cast iron. It was opened on New Year’s Day 1781.",
    "bread": "Rye bread keeps for a week. Wheat bread is stale on the second day.",
}


class WordRetriever:
    """Sentences of the documents as chunks, scored by shared words."""

    name = "words"

    def __init__(self, documents: dict[str, str]) -> None:
        self.chunks = []
        for document, text in documents.items():
            for n, found in enumerate(re.finditer(r"[^.]+\.\s*", text)):
                start, end = found.span()
                chunk = Chunk(id=f"{document}-{n}", document_id=document, text=text[start:end], start=start, end=end)
                self.chunks.append(chunk)

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Sequence[Hit]:
        asked = set(re.findall(r"\w{3,}", query.lower()))
        hits = [
            Hit(chunk=one, score=float(len(asked & set(re.findall(r"\w{3,}", one.text.lower())))))
            for one in self.chunks
        ]
        return sorted((hit for hit in hits if hit.score), key=lambda hit: -hit.score)[:k]


class Scripted:
    """Says what `speak` makes of its messages, a word at a time."""

    name = "scripted"

    def __init__(self, speak: Callable[[Sequence[Message]], str]) -> None:
        self.speak = speak
        self.asked: list[tuple[Sequence[Message], ChatOptions]] = []

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        self.asked.append((messages, options))
        for piece in re.findall(r"\S+\s*|\s+", self.speak(messages)):
            yield ChatDelta(text=piece)
        usage = Usage(prompt_tokens=100, completion_tokens=7, energy_joules=Quantity.exact(2.0, "user"))
        yield ChatDelta(finish_reason="stop", usage=usage)

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        return gathered(self.stream(messages, options))


@pytest.fixture
def documents() -> dict[str, str]:
    return dict(DOCUMENTS)


@pytest.fixture
def make_retriever() -> type[WordRetriever]:
    return WordRetriever


@pytest.fixture
def retriever() -> WordRetriever:
    return WordRetriever(DOCUMENTS)


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted
