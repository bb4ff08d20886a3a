"""Encoded: a prompt and its completions as token ids, cut where the completion begins.

Messages go through the tokenizer's chat template, with what ends the assistant's turn; plain texts end with the end
token. This module does not know losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.adapt.preference.preferences import Prompt
from bloomery.core.errors import DataError
from bloomery.tokenizer import Tokenizer
from bloomery.training.batches import padded
from bloomery.training.linear_cross_entropy import IGNORED


@dataclass(frozen=True)
class Completion:
    """Token ids of a prompt and of what follows it, which is not empty."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def encode_prompt(tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, ...]:
    """What the model reads before it answers."""
    if isinstance(prompt, str) and tokenizer.chat_template is None:
        return tuple(tokenizer.encode(prompt, add_bos=tokenizer.adds_bos)) or (tokenizer.separator_id,)
    return tuple(tokenizer.encode_chat(_messages(prompt), add_generation_prompt=True))


def encode_completion(tokenizer: Tokenizer, prompt: Prompt, completion: str) -> Completion:
    """Prompt and completion, with what ends it. DataError where the template changes the prompt after it is answered.

    A text that is a prompt goes through the chat template as the user's message where there is one. Plain texts are
    encoded apart, as a model that is asked meets them.
    """
    before = encode_prompt(tokenizer, prompt)
    if isinstance(prompt, str) and tokenizer.chat_template is None:
        return Completion(before, (*tokenizer.encode(completion), tokenizer.end_id))
    answered: list[Any] = [*_messages(prompt), {"role": "assistant", "content": completion}]
    whole = tuple(tokenizer.encode_chat(answered, add_generation_prompt=False))
    if whole[: len(before)] != before or len(whole) == len(before):
        raise DataError(
            "the chat template writes a prompt otherwise once it is answered",
            hint="its generation prompt should be what an assistant's message begins with",
        )
    return Completion(before, _ended(whole[len(before) :], tokenizer))


def _ended(ids: tuple[int, ...], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Without what a template writes after the token that ends the turn: a line break, which nobody predicts."""
    ends = [place for place, token in enumerate(ids) if token in tokenizer.eos_ids]
    return ids[: ends[-1] + 1] if ends else ids


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def rows_of(completions: Sequence[Completion], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """`input_ids` and `labels`, both (B, T): labels are the next tokens of completions, -100 elsewhere."""
    ids = [[*one.prompt, *one.completion] for one in completions]
    labels = [[IGNORED] * (len(one.prompt) - 1) + list(one.completion) for one in completions]
    return padded([row[:-1] for row in ids], pad_id), padded(labels, IGNORED)
