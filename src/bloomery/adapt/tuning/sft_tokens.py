"""SFT tokens: examples as token ids with what is learnt of them, split, cut, and put together in rows.

Answers are learnt, what stands before them is read only. An example that is longer than the context is cut at its end,
and one of which nothing is left to learn is left out; both are counted. This module does not know tensors or models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.adapt.tuning.instruct_data import Example
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.assistant import learnt_tokens

INSTRUCTION = "### Instruction:\n{}\n\n### Response:\n"
"""How an instruction is written for a model without a chat template, as Alpaca's authors did."""


@dataclass(frozen=True)
class TokenizedExample:
    """`ids`, and for each whether it is `learnt`: predicted from those before it."""

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]

    @property
    def num_learnt(self) -> int:
        """Tokens that are learnt; the first of a text cannot be."""
        return sum(self.learnt[1:])


@dataclass(frozen=True)
class Row:
    """Examples that lie in one row, none of which sees another."""

    examples: tuple[TokenizedExample, ...]

    @property
    def length(self) -> int:
        """Tokens of all of them."""
        return sum(len(one.ids) for one in self.examples)


@dataclass
class Encoder:
    """How examples become ids: by the tokenizer's chat template where it has one and `chats`, else as plain text."""

    tokenizer: Tokenizer
    context_length: int
    chats: bool = True
    cut: int = 0
    """Examples that were longer than the context."""
    left_out: int = 0
    """Examples of which nothing was left to learn."""
    open_ended: int = 0
    """Conversations that the template ends without a token that stops the model."""

    def __call__(self, examples: Sequence[Example]) -> list[TokenizedExample]:
        """All that something is learnt of. DataError, with file and line, for what the template refuses."""
        made = []
        for example in examples:
            one = self._encoded(example)
            if len(one.ids) > self.context_length:
                self.cut += 1
                one = TokenizedExample(one.ids[: self.context_length], one.learnt[: self.context_length])
            if one.num_learnt:
                made.append(one)
            else:
                self.left_out += 1
        return made

    def prompt(self, example: Example) -> tuple[list[int], str] | None:
        """What a model is asked with to give an example's (last) answer, and that answer; None for plain texts."""
        if example.prompt is not None:
            return self._start(example.prompt), example.answer
        if not example.messages:
            return None
        *before, last = example.messages
        if last["role"] not in ("assistant", "model") or not before:
            return None
        answer = last.get("content")
        expected = answer if isinstance(answer, str) else ""
        if self._templated:
            tools = list(example.tools) or None
            return self.tokenizer.encode_chat(list(before), add_generation_prompt=True, tools=tools), expected
        return self._start(self._written(before, example.where)), expected

    @property
    def _templated(self) -> bool:
        return self.chats and self.tokenizer.chat_template is not None

    def _encoded(self, example: Example) -> TokenizedExample:
        if example.messages and self._templated:
            try:
                found = learnt_tokens(self.tokenizer, example.messages, example.tools or None)
            except RequestError as error:
                raise DataError(f"{example.where}: {error.message}", hint=error.hint) from error
            self.open_ended += not found.ended
            return TokenizedExample(tuple(found.ids), tuple(found.learnt))
        if example.messages:
            if example.messages[-1]["role"] not in ("assistant", "model"):
                raise DataError(f"{example.where}: the last message is not the assistant's")
            prompt, answer = self._written(example.messages[:-1], example.where), example.messages[-1].get("content")
            if not isinstance(answer, str):
                raise DataError(f"{example.where}: a model without a chat template learns texts only")
        else:
            prompt, answer = example.prompt, example.answer
        before = self._start(prompt or "")
        after = [*self.tokenizer.encode(answer), self.tokenizer.end_id]
        return TokenizedExample((*before, *after), (*[False] * len(before), *[True] * len(after)))

    def _start(self, prompt: str) -> list[int]:
        """A text to go on from, as the engine encodes it."""
        return self.tokenizer.encode(prompt, add_bos=self.tokenizer.adds_bos)

    def _written(self, messages: Sequence[Mapping[str, Any]], where: str) -> str:
        """Messages for a model without a chat template: a single instruction, or turns of such."""
        texts = []
        for message in messages:
            content = message.get("content")
            if not isinstance(content, str) or message["role"] not in ("system", "user", "assistant", "model"):
                raise DataError(f"{where}: a model without a chat template reads system, user and assistant texts only")
            said = {"system": f"{content}\n\n", "user": INSTRUCTION.format(content)}
            texts.append(said.get(message["role"], f"{content}\n\n"))
        return "".join(texts)


def held_out(examples: Sequence[Example], fraction: float, most: int) -> tuple[list[Example], list[Example], int]:
    """(training, validation, how many equal ones were dropped): which is which is drawn from each example's content, so
    that it stays where it is when others come. ConfigError for a fraction out of range."""
    if not 0 <= fraction < 1:
        raise ConfigError(f'"validation_fraction" should be from 0 to below 1, not {fraction:g}')
    distinct = {example.identity: example for example in examples}
    drawn = sorted((_draw(identity), identity) for identity in distinct)
    count = min(most, round(fraction * len(drawn)))
    chosen = {identity for _, identity in drawn[:count]}
    train = [example for identity, example in distinct.items() if identity not in chosen]
    return train, [distinct[identity] for identity in distinct if identity in chosen], len(examples) - len(distinct)


def _draw(identity: str) -> str:
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def packed(examples: Sequence[TokenizedExample], length: int) -> list[Row]:
    """Examples in rows of at most `length` tokens: the longest first, each into the row that it fills best."""
    order = sorted(range(len(examples)), key=lambda index: -len(examples[index].ids))
    free: dict[int, list[int]] = {}
    """Rows by the room that they have left."""
    rows: list[list[TokenizedExample]] = []
    for index in order:
        size = len(examples[index].ids)
        room = next((left for left in range(size, length + 1) if free.get(left)), None)
        if room is None:
            rows.append([])
            place, room = len(rows) - 1, length
        else:
            place = free[room].pop()
        rows[place].append(examples[index])
        free.setdefault(room - size, []).append(place)
    return [Row(tuple(row)) for row in rows]
