"""Forgetting: bits per byte of the same documents before and after, of the domain, of general text, of something else.

Something else is the control: text that neither training had, whose change says what any further training does. The
measure is bits of all documents over bytes of all documents; documents are resampled in pairs (before, after), with
studentised intervals (Efron and Tibshirani 1993, chapter 12): bias-corrected and accelerated ones cover less where
longer documents change more. Where they do and their lengths differ much, 60 documents are few: 90 of 100 intervals
that say 95 hold the truth, of 200 documents 94. This module does not know how a model was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bloomery.adapt.log_probabilities import token_logprobs
from bloomery.core.errors import DataError
from bloomery.evaluate.bits_per_byte import scored_windows
from bloomery.evaluate.statistics import bootstrap_ratio
from bloomery.models import Decoder
from bloomery.tokenizer import Tokenizer
from bloomery.training.batches import padded
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.objective import evaluating

_TOKENS_A_BATCH = 8192


@dataclass(frozen=True, kw_only=True)
class Change:
    """Bits per byte of one kind of text before and after, the difference, and its 95% interval over documents (None
    with fewer than three, or where all are alike). Below zero is better."""

    kind: str
    documents: int
    text_bytes: int
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.low is None or self.high is None:
            return "too few documents to say"
        if self.low <= 0 <= self.high:
            return "no change to be told"
        return "better" if self.high < 0 else "worse"


def document_bits(
    model: Decoder, tokenizer: Tokenizer, texts: Sequence[str], *, told: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """(documents,) bits of each text and its end mark, every token scored once with at least half a window before
    it."""
    length, pieces = model.context_length, []
    for number, text in enumerate(texts):
        ids = [tokenizer.separator_id, *tokenizer.encode(text), tokenizer.end_id]
        pieces += [(number, window, scored) for window, scored in scored_windows(ids, length) if len(window) > 1]
    pieces.sort(key=lambda piece: len(piece[1]))
    bits, done = np.zeros(len(texts)), 0
    device = next(model.parameters()).device
    with evaluating(model):
        while done < len(pieces):
            rows = 1
            while done + rows < len(pieces) and len(pieces[done + rows][1]) * (rows + 1) <= _TOKENS_A_BATCH:
                rows += 1
            batch = pieces[done : done + rows]
            labels = padded([[IGNORED] * (len(w) - 1 - n) + list(w[len(w) - n :]) for _, w, n in batch], IGNORED)
            inputs = padded([list(window[:-1]) for _, window, _ in batch], tokenizer.end_id)
            said = token_logprobs(model, *(torch.from_numpy(one).to(device) for one in (inputs, labels)))
            np.add.at(bits, [number for number, _, _ in batch], -said.double().sum(1).cpu().numpy() / math.log(2))
            done += rows
            told(done * len(texts) // len(pieces))
    return bits


def change(
    kind: str, texts: Sequence[str], before: np.ndarray, after: np.ndarray, *, resamples: int, seed: int
) -> Change:
    """The change of one kind of text, of bits by document. DataError without any text."""
    sizes = np.array([len(text.encode()) for text in texts], dtype=float)
    if not len(sizes) or not sizes.sum():
        raise DataError(f"there is no text to measure as {kind}")

    gaps = np.asarray(after) - np.asarray(before)
    low, high = _interval(gaps, sizes, resamples, seed)
    return Change(
        kind=kind,
        documents=len(sizes),
        text_bytes=int(sizes.sum()),
        before=float(np.sum(before) / sizes.sum()),
        after=float(np.sum(after) / sizes.sum()),
        difference=float(gaps.sum() / sizes.sum()),
        low=low,
        high=high,
    )


def _interval(gaps: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> tuple[float | None, float | None]:
    if len(gaps) < 3 or np.ptp(gaps / np.maximum(sizes, 1)) < 1e-12:
        return None, None
    found = bootstrap_ratio(gaps, sizes, way="studentised", resamples=resamples, seed=seed)
    return found.low, found.high


def lines(changes: Sequence[Change] | Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for people."""
    table = [f"{'bits per byte':24} {'documents':>9} {'before':>8} {'after':>8} {'change':>8}  95% interval"]
    for one in changes:
        c = one if isinstance(one, Change) else Change(**one)
        interval = "unknown" if c.low is None or c.high is None else f"{c.low:+.4f} to {c.high:+.4f}"
        numbers = f"{c.documents:9,} {c.before:8.4f} {c.after:8.4f} {c.difference:+8.4f}"
        table.append(f"{c.kind:24.24} {numbers}  {interval} ({c.verdict})")
    return table
