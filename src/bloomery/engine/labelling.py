"""Labelling: what models say that give labels, tags or numbers, and what may be asked of them.

All of them read one example at a time; texts that are longer than the model reads are cut at their end, as in training.
This module does not know models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, topk

from bloomery.core.errors import RequestError
from bloomery.engine.asked import one_text


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One token for a blank, or one label for a text, with its natural log-probability."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class TaggedWord:
    """A word of a text, its most probable tag, and the tag's natural log-probability."""

    word: str
    tag: str
    logprob: float


def label_texts(names: Mapping[str, str] | None, count: int) -> list[str]:
    """The names of `count` labels, as a config's `id2label` has them; those without one are "LABEL_0" and so on."""
    return [str((names or {}).get(str(n), f"LABEL_{n}")) for n in range(count)]


def checked_top(top: object) -> int:
    """How many candidates are asked for; RequestError for no whole number from 1."""
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise RequestError(f"top should be a whole number from 1, not {top!r:.40}", param="top")
    return top


def best_labels(logits: Tensor, texts: Sequence[str], top: int) -> list[Candidate]:
    """The `top` most probable of the labels (C,) that `texts` name, the best first."""
    best = topk(logits.float().log_softmax(-1).cpu(), min(checked_top(top), len(texts)))
    return [
        Candidate(id=n, text=texts[int(n)], logprob=value)
        for n, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def text_to_label(text: object, *, param: str = "text") -> str:
    """One text that says something. RequestError for what is no text, and for one that is empty or blank."""
    checked = one_text(text, param=param)
    if not checked.strip():
        raise RequestError("the text is empty", hint="give one word at least", param=param)
    return checked
