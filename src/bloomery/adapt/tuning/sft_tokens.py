"""SFT tokens: examples as token ids with what is learnt of them, split, cut, and put together in rows.

Answers are learnt, what stands before them is read only. An example that is longer than the context is cut at its end,
and one of which nothing is left to learn is left out; both are counted. This module does not know tensors or models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.adapt.tuning.instruct_data import Example
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.assistant import learnt_tokens

_INSTRUCTION_TEMPLATE = """\
BEGIN{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '### Instruction:\\n' + message['content'] + '\\n\\n' }}
    {%- elif message['tool_calls'] or message['role'] == 'tool' %}
        {{- raise_exception('a model without a chat template calls no tools') }}
    {%- elif message['role'] == 'assistant' %}
        {{- '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}
    {%- else %}
        {{- message['content'] + '\\n\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\\n' }}
{%- endif %}
"""
"""How conversations are written for a model without a chat template: the headings that Alpaca's authors took."""


def with_template(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, or if it has no chat template with one of plain headings."""
    if tokenizer.chat_template is not None:
        return tokenizer
    begin = "{{- bos_token }}\n" if tokenizer.adds_bos else ""
    return tokenizer.with_chat_template(_INSTRUCTION_TEMPLATE.replace("BEGIN", begin))


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
    """How examples become ids: conversations by the tokenizer's chat template."""

    tokenizer: Tokenizer
    context_length: int
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
        ids = self.tokenizer.encode_chat(list(before), add_generation_prompt=True, tools=list(example.tools) or None)
        return ids, answer if isinstance(answer, str) else ""

    def _encoded(self, example: Example) -> TokenizedExample:
        if example.messages:
            try:
                found = learnt_tokens(self.tokenizer, example.messages, example.tools or None)
            except RequestError as error:
                raise DataError(f"{example.where}: {error.message}", hint=error.hint) from error
            self.open_ended += not found.ended
            return TokenizedExample(tuple(found.ids), tuple(found.learnt))
        before = self._start(example.prompt or "")
        after = [*self.tokenizer.encode(example.answer), self.tokenizer.end_id]
        return TokenizedExample((*before, *after), (*[False] * len(before), *[True] * len(after)))

    def _start(self, prompt: str) -> list[int]:
        """A text to go on from, as the engine encodes it."""
        return self.tokenizer.encode(prompt, add_bos=self.tokenizer.adds_bos)


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
