"""Bits per byte of documents under a causal model: the measure that is comparable across tokenizers.

Nats over every token of every document and its end marker, divided by ln 2 and by the UTF-8 bytes of the text.
Long documents are read in windows that overlap by half, each token scored once with at least half a window of
context (beginnings excepted). Scored in float32. This module does not know where documents come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bloomery.core.errors import DataError
from bloomery.engine import LanguageModel

_TOKENS_A_BATCH = 8192
_DOCUMENTS_AT_ONCE = 512


@dataclass(frozen=True)
class BitsPerByte:
    """`bits_per_byte` over `text_bytes` bytes in `documents` documents; `tokens` labels were scored."""

    bits_per_byte: float
    nats_per_token: float
    tokens: int
    text_bytes: int
    documents: int


def bits_per_byte(
    model: LanguageModel, texts: Iterable[str], *, progress: Callable[[int], None] = lambda documents: None
) -> BitsPerByte:
    """Score texts; `progress` hears the number of documents done. DataError if there is no text."""
    nats, tokens, text_bytes, documents = 0.0, 0, 0, 0
    for group in _groups(texts):
        windows = [w for text in group for w in scored_windows(_ids(model, text), _window_length(model))]
        for score, count in _scores(model, windows):
            nats += score
            tokens += count
        text_bytes += sum(len(text.encode()) for text in group)
        documents += len(group)
        progress(documents)
    if text_bytes == 0:
        raise DataError("there is no text to score", hint="the split is empty: curate more documents")
    return BitsPerByte(nats / text_bytes / math.log(2), nats / max(1, tokens), tokens, text_bytes, documents)


def _ids(model: LanguageModel, text: str) -> list[int]:
    tokenizer = model.tokenizer
    return [tokenizer.separator_id, *tokenizer.encode(text), tokenizer.end_id]


def _window_length(model: LanguageModel) -> int:
    return model.config.context_length


def scored_windows(ids: Sequence[int], length: int) -> Iterator[tuple[Sequence[int], int]]:
    """(ids of a window, how many of its last tokens to score): every token but the first is scored once."""
    yield ids[: length + 1], min(len(ids), length + 1) - 1
    stride = max(1, length // 2)
    end = length + 1
    while end < len(ids):
        new_end = min(len(ids), end + stride)
        yield ids[max(0, new_end - length - 1) : new_end], new_end - end
        end = new_end


@torch.inference_mode()
def _scores(model: LanguageModel, windows: list[tuple[Sequence[int], int]]) -> Iterator[tuple[float, int]]:
    windows = sorted((w for w in windows if len(w[0]) > 1), key=lambda w: len(w[0]))
    start = 0
    while start < len(windows):
        # Sorted by length, a batch is padded little; its size is bounded in tokens.
        rows = 1
        while start + rows < len(windows) and len(windows[start + rows][0]) * (rows + 1) <= _TOKENS_A_BATCH:
            rows += 1
        batch = windows[start : start + rows]
        start += rows
        width = len(batch[-1][0])
        ids = torch.zeros(rows, width, dtype=torch.long)
        labels = torch.full((rows, width), -100)
        for row, (window, scored) in enumerate(batch):
            ids[row, : len(window)] = torch.tensor(window)
            labels[row, len(window) - scored : len(window)] = ids[row, len(window) - scored : len(window)]
        logits = model.logits(ids[:, :-1])
        targets = labels[:, 1:].to(logits.device)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        yield float(loss), int((targets != -100).sum())


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == _DOCUMENTS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
