"""Reading: the model as it is, with passages before the question: found by search (RAG), or all documents that fit
(long context). How many passages, and with or without examples, is chosen on dev.

This module does not know how documents are searched (see `retrieve`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.arm import Setting, Tuned
from bloomery.adapt.comparison.arms.prompted import (
    Asked,
    by_likelihood,
    chosen_on_dev,
    opened_way,
    starting_template,
    way,
)
from bloomery.adapt.comparison.documents import read_documents
from bloomery.adapt.comparison.passages import Reader, ReadingAnswerer, Search, all_documents, opened_index, paid_before
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.work import EMBEDDED_CHARACTER, READ_CHARACTER, counted
from bloomery.adapt.prompts import StrategyConfig
from bloomery.evaluate.sample import Answerer, Sample

PASSAGE_TOKENS = 120
_PASSAGES = (1, 3, 5)
_CHARACTERS_A_TOKEN = 3.0
"""Where no tokenizer says: on the safe side for English."""
_LEAST_SHARE = 0.1


class ReadingArm:
    """RAG, or long context; see the module."""

    asks = True

    def __init__(self, name: str) -> None:
        self.name = name

    def unfit(self, setting: Setting) -> str:
        if not setting.config.documents:
            return "the task has no documents"
        if self.name == "long-context":
            total = sum(len(one.text) for one in read_documents(setting.config.documents))
            share = context_characters(setting) / max(1, total)
            if share < _LEAST_SHARE:
                return f"{share:.1%} of the documents' {total:,} characters fit into the model's context"
        elif context_characters(setting) < 400:
            return "the model's context has no room for a passage"
        return ""

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        assert setting.model is not None
        base = starting_template(setting)
        asked = StrategyConfig(plain=setting.model.plain, seed=setting.config.seed)
        counts = _PASSAGES if self.name == "rag" else (0,)
        likely = by_likelihood(setting, asked, lengths=("none",))
        ways = [{**one, "passages": count} for count in counts for one in (way(base, asked), *likely)]
        model = Asked.of(setting.model, spending)
        if self.name == "rag":
            pay_for_index(setting, spending)
        return chosen_on_dev(setting, ways, lambda one: self._opened(setting, one, model), spending, labels_used=0)

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        assert setting.model is not None
        yield self._opened(setting, settings, Asked.of(setting.model))

    def _opened(self, setting: Setting, settings: Mapping[str, Any], model: Asked) -> Answerer:
        base = opened_way(settings, model, setting.train)
        return ReadingAnswerer(base, reader_of(setting, int(settings["passages"])))


def reader_of(setting: Setting, passages: int) -> Reader:
    """`passages` 0: all documents, as they fit."""
    source = setting.config.documents
    if not passages:
        return Reader(finder=all_documents(source), room=lambda sample: _room(setting, sample))
    found = opened_index(source, setting.workspace, size_tokens=PASSAGE_TOKENS, embedder=setting.config.embedder)
    return Reader(finder=Search(found, passages), room=lambda sample: _room(setting, sample))


def pay_for_index(setting: Setting, spending: Spending) -> None:
    """An index that another arm has made costs as much as one that is made now."""
    config = setting.config
    spending.add(paid_before(config.documents, setting.workspace, size_tokens=PASSAGE_TOKENS, embedder=config.embedder))
    characters = sum(len(one.text) for one in read_documents(config.documents))
    spending.add(counted((READ_CHARACTER + (EMBEDDED_CHARACTER if config.embedder else 0)) * characters))


def context_characters(setting: Setting) -> int:
    """Of a prompt, about: what the context holds beside an answer and the instruction."""
    assert setting.model is not None
    loaded = setting.model.loaded
    tokens = setting.model.config.context_tokens if loaded is None else loaded.context_length
    left = tokens - setting.config.max_new_tokens - 64
    return max(0, int(left * _characters_a_token(setting)) - len(setting.config.instruction))


def _characters_a_token(setting: Setting) -> float:
    """Of the task's own questions in the model's own tokens, and a tenth to spare."""
    if setting.model is None or setting.model.loaded is None:
        return _CHARACTERS_A_TOKEN
    texts = [one.input for one in setting.train[:50]]
    tokens = sum(len(setting.model.loaded.tokenizer.encode(text)) for text in texts)
    return 0.9 * sum(map(len, texts)) / max(1, tokens)


def _room(setting: Setting, sample: Sample) -> int:
    shown = len(sample.input) + sum(len(choice) + 8 for choice in sample.choices)
    return context_characters(setting) - shown
