"""Room: which ways to ask fit into the model's context, found out before anything is spent.

A way is left out where more than one in twenty of dev's questions, with its examples before them, is longer than the
model reads: asked so, they would fail, or lose their beginning without a word. Tokens are the model's own; an
endpoint's are estimated from characters. The same tokens tell how many questions the budget pays for. This module does
not know which arm asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bloomery.adapt.comparison.arm import Setting
from bloomery.adapt.comparison.work import A_SECOND, PASS
from bloomery.core.messages import Message
from bloomery.evaluate.sample import Sample

MOST = 0.05
"""Share of dev's questions that may be too long."""
_ANSWER_TOKENS = 16
"""That a free answer should have room for, at least; less where its limit is lower."""
_CHARACTERS_A_TOKEN = 4.0
_AROUND_MESSAGE = 8
"""Tokens of an endpoint's chat template."""

Asking = Callable[[Sample], Sequence[Message]]


def context_tokens(setting: Setting) -> int:
    """That the model reads at most."""
    assert setting.model is not None
    loaded = setting.model.loaded
    return setting.model.config.context_tokens if loaded is None else loaded.context_length


def too_long(setting: Setting, asking: Asking, *, plain: bool, limit: int, held: bool) -> str:
    """Why a way does not fit, as part of a sentence; "" for one that does. `plain`: its messages are one text; `limit`:
    tokens of an answer; `held`: answers are choices."""
    most = context_tokens(setting)
    over = 0
    for sample in setting.dev:
        room = min(limit, _ANSWER_TOKENS)
        if held and sample.choices:
            room = max(_tokens(setting, choice) for choice in sample.choices)
        over += _length(setting, asking(sample), plain) + room > most
    if over <= MOST * len(setting.dev):
        return ""
    return f"{over:,} of {len(setting.dev):,} questions of dev would be longer than the {most:,} tokens that it reads"


def _length(setting: Setting, messages: Sequence[Message], plain: bool) -> int:
    assert setting.model is not None
    loaded = setting.model.loaded
    if loaded is None:
        return sum(_tokens(setting, str(one["content"])) + _AROUND_MESSAGE for one in messages)
    if plain:
        return sum(len(loaded.tokenizer.encode(str(one["content"]))) for one in messages) + 1
    return len(loaded.tokenizer.encode_chat(list(messages), add_generation_prompt=True))


def _tokens(setting: Setting, text: str) -> int:
    assert setting.model is not None
    loaded = setting.model.loaded
    return int(len(text) / _CHARACTERS_A_TOKEN) if loaded is None else len(loaded.tokenizer.encode(text))


def paid_questions(setting: Setting) -> int | None:
    """Of dev, about: how many the budget pays for, each asked once in the plainest way; None where no limit counts."""
    assert setting.model is not None
    budget, work = setting.config.budget, setting.model.work
    read = sum(_tokens(setting, one.input) for one in setting.dev) / max(1, len(setting.dev))
    written = min(setting.config.max_new_tokens, _ANSWER_TOKENS)
    limits = []
    if budget.processor_seconds is not None:
        limits.append(budget.processor_seconds * A_SECOND / (PASS + work.asked(read, written)))
    if budget.tokens is not None:
        limits.append(budget.tokens / (read + written))
    return int(min(limits)) if limits else None


def described(way: Mapping[str, Any]) -> str:
    """A way to ask, in a few words."""
    examples = way["template"]["examples"]
    shown = f"{examples['count']} {examples['how']} examples" if examples["count"] else "no examples"
    by = f", by likelihood ({way['likelihood']})" if "likelihood" in way else f", {way['strategy']['kind']}"
    return shown + by
