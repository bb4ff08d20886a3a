"""Chances: how probable a model found each of the answers that it could choose from, out of its log-probabilities.

An answer and another part at some token. There, the most probable tokens that the model told are each worth what can
still follow: a token after which only one answer is left is that answer's; one after which several are left is shared
among them alike, for which of them would have followed is not told. These probabilities, of the model's unmodified
distribution, are scaled to add up to 1. This module does not know models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.messages import CHOICE_KEY, AnswerToken


@dataclass(frozen=True)
class Chances:
    """`by_choice` adds up to 1. `coverage` is the share of the model's distribution that all of them had together:
    small where it would rather have said something else. A choice that was not among the tokens told has 0. `shared` is
    the share of `by_choice` that several choices begin with alike."""

    by_choice: dict[str, float]
    coverage: float
    shared: float


def chances(tokens: Sequence[AnswerToken], choice: str, choices: Sequence[str]) -> Chances | None:
    """Of an answer whose text is `choice`, or the JSON object {"answer": choice}. None where the tokens do not say:
    they are not the answer's text, or end before one choice is left (one choice is the beginning of another)."""
    text = b"".join(token.data for token in tokens)
    spelt, open_end = _spellings(text, choice, choices)
    if not spelt:
        return None
    mass = dict.fromkeys(choices, 0.0)
    before, path, common, shared = b"", 0.0, None, 0.0
    for token in tokens:
        here = [one for one in choices if spelt[one].startswith(before)]
        for other in token.top:
            if other.data and other.data != token.data:
                left = [one for one in here if _fits(spelt[one], before + other.data, open_end)]
                for one in left:
                    mass[one] += math.exp(path + other.logprob) / len(left)
                shared += math.exp(path + other.logprob) if len(left) > 1 else 0.0
        left = [one for one in here if _fits(spelt[one], before + token.data, open_end)]
        if len(left) < len(here) and common is None:
            common = path
        path += token.logprob
        before += token.data
        if len(left) == 1:
            mass[choice] += math.exp(path)
            break
    else:
        return None
    total = sum(mass.values())
    if not total > 0 or common is None:
        return None
    by_choice = {one: value / total for one, value in mass.items()}
    return Chances(by_choice, min(1.0, total / math.exp(common)), min(1.0, shared / total))


def _fits(spelling: bytes, beginning: bytes, open_end: bool) -> bool:
    """With an open end a token may reach beyond the answer: its quotation mark and what ends the object, for
    example."""
    return spelling.startswith(beginning) or (open_end and beginning.startswith(spelling))


def _spellings(text: bytes, choice: str, choices: Sequence[str]) -> tuple[dict[str, bytes], bool]:
    """How the model would have spelt each choice, white space and all, and whether something follows it."""
    bare = text.strip()
    before = text[: len(text) - len(text.lstrip())]
    if bare == choice.encode():
        return {one: before + one.encode() for one in choices}, False
    for ascii_only in (False, True):
        spelt = json.dumps(choice, ensure_ascii=ascii_only).encode()
        at = text.find(spelt, text.find(json.dumps(CHOICE_KEY).encode()) + len(CHOICE_KEY) + 2)
        if bare.startswith(b"{") and at >= 0:
            spelt_all = {one: text[:at] + json.dumps(one, ensure_ascii=ascii_only).encode() for one in choices}
            return spelt_all, True
    return {}, False
