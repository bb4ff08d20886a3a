"""A batch in words: what a model is shown and what it should say, token by token.

This module does not know how labels are made; it reads the arrays that the loss reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bloomery.tokenizer import Tokenizer
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.objective import Batch

_INPUTS = ("source_ids", "decoder_input_ids", "input_ids")


@dataclass(frozen=True)
class Cell:
    """One place of a row: the token that stands there, and what is learnt there ("" where nothing is)."""

    id: int
    text: str
    label: str


@dataclass(frozen=True)
class RowView:
    """One row: its inputs by name, each a list of cells without padding; `answer` is the label of the whole row;
    `others` says of other arrays what they are."""

    inputs: dict[str, list[Cell]]
    answer: str
    others: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def view_batch(
    batch: Batch, tokenizer: Tokenizer | None, *, names: Sequence[str] = (), target: Tokenizer | None = None
) -> list[RowView]:
    """Every row of a batch, whose tokens `tokenizer` spells (None: it has none), and `target` those of a decoder that
    has its own. `names` are those of classes or tags; without them a label is a token, or a number."""
    return [_row(batch, row, tokenizer, target or tokenizer, names) for row in range(batch.rows)]


def _row(batch: Batch, row: int, source: Tokenizer | None, target: Tokenizer | None, names: Sequence[str]) -> RowView:
    arrays = batch.arrays
    labels = arrays.get("labels")
    inputs: dict[str, list[Cell]] = {}
    for name in _INPUTS:
        tokenizer = target if name == "decoder_input_ids" else source
        if name not in arrays or tokenizer is None:
            continue
        ids = arrays[name][row]
        # The labels stand under the last of the inputs: under the decoder's where there is one.
        learns = labels is not None and labels.ndim == 2 and name != "source_ids"
        marks = labels[row] if learns and labels is not None else np.full(len(ids), IGNORED)
        mask = arrays.get({"input_ids": "attention_mask", "source_ids": "source_mask"}.get(name, ""))
        end = _end(ids, marks, None if mask is None else mask[row])
        inputs[name] = [
            Cell(i, token_text(tokenizer, i), "" if mark == IGNORED else _named(mark, names, tokenizer))
            for i, mark in zip(ids[:end].tolist(), marks[:end].tolist(), strict=True)
        ]
    answer = "" if labels is None or labels.ndim != 1 else _answer(labels[row].item(), names)
    shown = {"labels", "attention_mask", "source_mask", *inputs}
    others = {name: _described(array[row]) for name, array in arrays.items() if name not in shown}
    return RowView(inputs, answer, others)


def token_text(tokenizer: Tokenizer, index: int) -> str:
    """A token as text, special ones as they are spelt."""
    return tokenizer.decode([index], skip_special=False) or tokenizer.token_text(index)


def _end(ids: np.ndarray, marks: np.ndarray, mask: np.ndarray | None) -> int:
    """Where the padding of a row begins."""
    if mask is not None:
        return int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else 0
    learnt = np.flatnonzero(marks != IGNORED)
    other = np.flatnonzero(ids != ids[-1])
    last = max(learnt[-1] if len(learnt) else -1, other[-1] if len(other) else -1)
    # Where texts end with the token that also pads, that end is still the text's.
    return min(len(ids), int(last) + (1 if len(learnt) else 2))


def _named(mark: int, names: Sequence[str], tokenizer: Tokenizer) -> str:
    return names[mark] if names else token_text(tokenizer, mark)


def _answer(value: float, names: Sequence[str]) -> str:
    return names[int(value)] if names else f"{value:g}"


def _described(array: np.ndarray) -> str:
    if array.dtype == np.bool_:
        return ", ".join(str(place) for place in np.flatnonzero(array).tolist())
    size = " x ".join(str(n) for n in array.shape)
    return f"{size} numbers from {float(array.min()):.3g} to {float(array.max()):.3g}"
