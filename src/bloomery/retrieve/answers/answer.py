"""Answers: a question to a retriever and a model, and what comes back with citations, or "not in the documents".

    answer = Answering(retriever, model).answer("When was the furnace lit?")
    answer.text, answer.statements[0].citations[0].document_id

Without a model the answer is made of the passages' own sentences. This module does not know how anything is searched,
whose model answers, or who asks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from bloomery.core.asking import TOO_LONG
from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.messages import ChatDelta, ChatModel, ChatOptions, Message, Usage, gathered
from bloomery.retrieve.answers.citation import Statement, by_markers, by_quotes, by_spans
from bloomery.retrieve.answers.extract import absent_numbers, extract
from bloomery.retrieve.answers.fitting import LEAST_TOKENS, Fitted, fitted, num_unread
from bloomery.retrieve.answers.gate import Gate
from bloomery.retrieve.answers.passages import CountTokens, Passage, PassageConfig, assemble, estimated_tokens
from bloomery.retrieve.answers.prompt import NOT_FOUND, NOT_SUPPORTED, Form, is_refusal, messages, quotes_schema
from bloomery.retrieve.chunk import Filters, Hit, Retriever
from bloomery.retrieve.untrusted import HarmlessStream, harmless


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """How a question is answered."""

    form: Form = "markers"
    """How a model cites: numbers of passages in its text; quotes beside its answer, held to a JSON schema; not at all,
    and what it shares with the passages is found; or "extract": sentences of the passages, and no model."""
    k: int = 10
    """Chunks that are searched for."""
    passages: PassageConfig = field(default_factory=PassageConfig)
    """What of them is read, as far as the model's context has room for it beside the answer."""
    max_new_tokens: int = 512
    """Of an answer; fewer where the context has no room for as many."""
    temperature: float = 0.0
    """0 is greedy."""
    seed: int = 0
    """Makes sampling repeatable."""
    least_support: float = 0.6
    """Share of a statement's words that its source should have."""
    strict: bool = False
    """Leave out what is not supported; an answer of which nothing is left is none."""
    defended: bool = True
    """Treat passages as data: see `untrusted`."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that an answer may link to."""

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 <= self.least_support <= 1:
            raise ConfigError(f"k = {self.k}, least_support = {self.least_support}: out of range")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`text` is safe to show as Markdown; `found` False: the documents do not say, and `why` by whose judgement
    ("search": nothing was found, or too little; "model"; "strict": nothing it said was supported; "form": what it wrote
    is cut, or not of the form that was asked for)."""

    question: str
    text: str
    found: bool
    statements: tuple[Statement, ...] = ()
    passages: tuple[Passage, ...] = ()
    left_out: int = 0
    """Chunks that were found and not read: the model's context, or `PassageConfig`, has no room for them."""
    why: str = ""
    note: str = ""
    """What a reader should know of sentences that no model has read: that they may not answer."""
    probability: float | None = None
    """That the documents answer, by the gate."""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    messages: tuple[Message, ...] = ()
    said: str = ""
    """What the model wrote, as it wrote it."""

    @property
    def supported(self) -> bool:
        """Whether every statement is."""
        return self.found and bool(self.statements) and all(one.supported for one in self.statements)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "question": self.question,
            "answer": self.text,
            "found": self.found,
            "why": self.why,
            "note": self.note,
            "supported": self.supported,
            "probability": self.probability,
            "statements": [one.to_dict() for one in self.statements],
            "passages": [passage_data(n, one) for n, one in enumerate(self.passages, 1)],
            "left_out": self.left_out,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "energy_joules": self.usage.energy_joules.to_dict(),
            "seconds": self.seconds,
        }


def passage_data(number: int, passage: Passage) -> dict[str, Any]:
    """A passage as JSON data."""
    return {
        "passage": number,
        "document_id": passage.document_id,
        "also": list(passage.also),
        "heading": passage.heading,
        "score": passage.score,
        "ranges": [[piece.start, piece.end] for piece in passage.pieces],
        "chunks": [chunk.id for chunk in passage.chunks],
        "text": passage.text,
    }


@dataclass(frozen=True, kw_only=True)
class AnswerDelta:
    """A piece of an answer, safe to show; the last one has the whole."""

    text: str = ""
    answer: Answer | None = None


class Answering:
    """Safe to use from several threads if the retriever and the model are. `model` None, or the form "extract",
    answers without one. `gate` says where it is not worth asking; `count` counts tokens of passages [default: with
    the model's tokenizer where it has one here, else an estimate from above]."""

    def __init__(
        self,
        retriever: Retriever,
        model: ChatModel | None = None,
        config: AnswerConfig | None = None,
        *,
        gate: Gate | None = None,
        count: CountTokens | None = None,
    ) -> None:
        self.retriever, self.model, self.config, self.gate = retriever, model, config or AnswerConfig(), gate
        self.count = count or _counter(model)
        if gate is not None:
            gate.require(retriever.name, self.config.k)

    @property
    def name(self) -> str:
        form = "extract" if self.model is None else self.config.form
        return f"{self.retriever.name}, {form}" + (f", {self.model.name}" if self.model and form != "extract" else "")

    def answer(self, question: str, filters: Filters | None = None, *, instruction: str = "") -> Answer:
        """The whole answer. `instruction` is said after the question, and not searched for. RequestError for an empty
        question, and for what the model refuses."""
        *_, last = self.stream(question, filters, instruction=instruction)
        assert last.answer is not None
        return last.answer

    def stream(self, question: str, filters: Filters | None = None, *, instruction: str = "") -> Iterator[AnswerDelta]:
        """The answer as it comes, then the whole with its citations, which may differ: `strict` takes back what was
        not supported. With quotes, JSON is written, and nothing is shown before its end."""
        if not question.strip():
            raise RequestError("the question is empty", param="question")
        began = time.perf_counter()
        hits = self.retriever.search(question, k=self.config.k, filters=filters)
        probability = self.gate.probability(question, hits) if self.gate else None
        refused = self.gate is not None and not self.gate.passes(question, hits)
        if not refused and self.model is not None and self.config.form != "extract" and _readable(hits):
            yield from self._told(question, instruction, hits, probability, began)
            return
        passages = assemble(hits, self.config.passages, count=self.count)
        if not passages or refused:
            found = self._nothing(question, passages, "search", probability=probability)
        else:
            found = self._extracted(question, passages, probability)
        yield self._last(replace(found, left_out=num_unread(hits, passages)), began, shown=False)

    def _told(
        self, question: str, instruction: str, hits: Sequence[Hit], probability: float | None, began: float
    ) -> Iterator[AnswerDelta]:
        config = self.config
        whole = f"{question}\n{instruction}" if instruction else question
        asked, stream = self._asked(whole, hits)
        shown = HarmlessStream(allowed_hosts=config.allowed_hosts)
        shows = config.form != "quotes" and not config.strict
        deltas: list[ChatDelta] = []
        for delta in stream:
            deltas.append(delta)
            if shows and delta.text and (text := shown.feed(delta.text)):
                yield AnswerDelta(text=text)
        if shows and (text := shown.end()):
            yield AnswerDelta(text=text)
        said = gathered(deltas)
        answer = replace(
            self._read(question, said.text, asked.passages),
            left_out=num_unread(hits, asked.passages),
            usage=said.usage,
            messages=tuple(asked.messages),
            said=said.text,
            probability=probability,
        )
        yield self._last(answer, began, shown=shows)

    def _asked(self, question: str, hits: Sequence[Hit]) -> tuple[Fitted, Iterator[ChatDelta]]:
        """What the model is asked, as it fits, and what it says. A model elsewhere that finds it too long is asked
        again with half the passages."""
        assert self.model is not None
        config, reading = self.config, self.config.passages
        special = _special_texts(self.model)

        def prompt(passages: Sequence[Passage]) -> list[Message]:
            return messages(question, passages, config.form, defended=config.defended, special_texts=special)

        while True:
            asked = fitted(
                hits, reading, prompt, model=self.model, count=self.count, max_new_tokens=config.max_new_tokens
            )
            options = ChatOptions(
                max_new_tokens=asked.max_new_tokens,
                temperature=config.temperature,
                seed=config.seed,
                schema=quotes_schema(len(asked.passages)) if config.form == "quotes" else None,
            )
            stream = iter(self.model.stream(asked.messages, options))
            try:
                first = next(stream, None)
            except RequestError as error:
                taken = min(asked.budget_tokens, sum(self.count(one.text) for one in asked.passages))
                if not _too_long(error) or taken // 2 < LEAST_TOKENS:
                    raise
                reading = replace(reading, budget_tokens=taken // 2)
                continue
            return asked, chain(() if first is None else (first,), stream)

    def _read(self, question: str, said: str, passages: list[Passage]) -> Answer:
        """What a model wrote, as an answer."""
        config = self.config
        text, quotes, found = said.strip(), [], True
        if config.form == "quotes":
            text, quotes, found = read_quotes(said)
            if found and not text:
                return self._nothing(question, passages, "form")
        if not found or is_refusal(text):
            return self._nothing(question, passages, "model")
        if config.form == "markers":
            text, statements = by_markers(text, passages, least=config.least_support)
        elif config.form == "quotes":
            statements = by_quotes(text, quotes, passages, least=config.least_support)
        else:
            statements = by_spans(text, passages, least=config.least_support)
        if config.strict:
            statements = [one for one in statements if one.supported]
            if not statements:
                return self._nothing(question, passages, "strict")
            text = " ".join(one.text + _numbers(one) for one in statements)
        shown = harmless(text, allowed_hosts=config.allowed_hosts)
        return Answer(question=question, text=shown, found=True, statements=tuple(statements), passages=tuple(passages))

    def _extracted(self, question: str, passages: list[Passage], probability: float | None) -> Answer:
        found = extract(question, passages)
        if not found:
            return self._nothing(question, passages, "search", probability=probability)
        made = [
            Statement(text=one.citation.quote, citations=(one.citation,), support=1.0, supported=True) for one in found
        ]
        text = " ".join(" ".join(one.text.split()) + _numbers(one) for one in made)
        return Answer(
            question=question,
            text=harmless(text, allowed_hosts=self.config.allowed_hosts),
            found=True,
            statements=tuple(made),
            passages=tuple(passages),
            note=_note(question, passages),
            probability=probability,
        )

    def _nothing(
        self, question: str, passages: Sequence[Passage], why: str, *, probability: float | None = None
    ) -> Answer:
        return Answer(
            question=question,
            text=NOT_SUPPORTED if why in ("strict", "form") else NOT_FOUND,
            found=False,
            passages=tuple(passages),
            why=why,
            probability=probability,
        )

    def _last(self, answer: Answer, began: float, *, shown: bool) -> AnswerDelta:
        whole = replace(answer, seconds=time.perf_counter() - began)
        return AnswerDelta(text="" if shown else whole.text, answer=whole)


def read_quotes(said: str) -> tuple[str, list[tuple[int, str]], bool]:
    """(answer, quotes, whether it was found) of JSON in the form "quotes"; other text is an answer without quotes, and
    JSON that was cut or is of another form is none."""
    try:
        told = json.loads(said)
        quotes = [(int(one["passage"]), str(one["words"])) for one in told.get("quotes", ())]
        return str(told["answer"]).strip(), quotes, bool(told.get("found", True))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        bare = said.strip()
        return ("" if bare.startswith("{") else bare), [], True


def _note(question: str, passages: Sequence[Passage]) -> str:
    absent = absent_numbers(question, passages)
    told = f"; no passage that was found has {', '.join(absent)}" if absent else ""
    return f"nearest passages; they may not answer the question{told}"


def _too_long(error: RequestError) -> bool:
    """By the code that most servers give, or in their words."""
    return error.code == TOO_LONG or "context length" in error.message.lower()


def _readable(hits: Sequence[Hit]) -> bool:
    return any(hit.chunk.text.strip() for hit in hits)


def _numbers(statement: Statement) -> str:
    numbers = sorted({one.passage for one in statement.citations})
    return f" [{', '.join(map(str, numbers))}]" if numbers else ""


def _tokenizer(model: ChatModel | None) -> Any:
    return getattr(getattr(model, "model", None), "tokenizer", None)


def _counter(model: ChatModel | None) -> CountTokens:
    tokenizer = _tokenizer(model)
    return estimated_tokens if tokenizer is None else lambda text: len(tokenizer.encode(text))


def _special_texts(model: ChatModel) -> list[str]:
    """How the special tokens of a model in process are spelt; an endpoint's are not known, but for the usual ones."""
    tokenizer = _tokenizer(model)
    return [] if tokenizer is None else [tokenizer.token_text(index) for index in tokenizer.special_ids]
