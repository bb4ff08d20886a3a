"""Packing: documents into rows of equal length, BOS-aligned, best fit, resumed exactly.

Every document is a run of labels (its tokens after BOS, then its end marker). Once an epoch each document is cut
into segments of at most `context_length` labels, the first cut of a long one at a random place, and all segments
are shuffled from (seed, epoch). A row takes the oldest segment of a buffer, then as long as there is room the
longest that fits (best fit, Ding et al. 2024, "Fewer Truncations Improve Language Modeling"). If none fits, a small
gap is padded and for a larger one the longest segment is cut, its rest going back to the buffer. Each segment's
inputs begin with BOS and its labels are the true next tokens, so within an epoch every token is a label exactly once.

This module does not know models, devices or files (see `shards`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer.shards import TokenShards

IGNORED = -100
_MIN_CONTEXT_LENGTH = 8
_BLOCK_SEGMENTS = 4096
_FOREVER = 1 << 62


class Segment(NamedTuple):
    """Labels `start` to `stop` of a document."""

    document: int
    start: int
    stop: int


class PackedRows:
    """Endless batches of packed rows over one split.

    `context_length` T is the length of a row in tokens, `buffer_documents` how many segments best fit may choose
    from. The same shards and arguments always give the same batches. Raises DataError if no document has text.
    """

    def __init__(self, shards: TokenShards, *, context_length: int, seed: int, buffer_documents: int = 256) -> None:
        if context_length < _MIN_CONTEXT_LENGTH:
            raise ConfigError(f"context_length is {context_length}, but rows need {_MIN_CONTEXT_LENGTH} tokens or more")
        if buffer_documents < 1 or seed < 0:
            raise ConfigError("buffer_documents must be 1 or more and seed 0 or more")
        self.shards = shards
        self.context_length = context_length
        self.seed = seed
        self.buffer_documents = buffer_documents
        num_labels = shards.num_labels()
        # A document without text would only teach that BOS ends a document.
        self._documents = np.flatnonzero(num_labels >= 2)
        if not len(self._documents):
            raise DataError(f"the {shards.split} split of {shards.folder} has no document with text in it")
        self._num_labels = num_labels[self._documents]
        # A gap smaller than this is padded: to fill it a segment would have to be cut, at the price of context.
        self._min_cut = max(2, context_length // 16)
        self._buffer: dict[int, Segment] = {}
        self._by_length: list[tuple[int, int]] = []
        self._arrivals = 0
        self._counts = {"rows": 0, "labels": 0, "padded": 0, "cropped": 0}
        self._begin_epoch(0)

    @property
    def epoch(self) -> int:
        """The epoch that the next row belongs to; 0 at first. No row mixes two epochs."""
        return self._epoch

    @property
    def stats(self) -> dict[str, float]:
        """Counts so far and two shares: `padded_share` of all positions, `cropped_share` of all labels.

        A label is cropped if its segment does not begin where its document does: it is predicted without the
        text before the cut.
        """
        positions = self._counts["rows"] * self.context_length
        return {
            **self._counts,
            "positions": positions,
            "padded_share": self._counts["padded"] / max(1, positions),
            "cropped_share": self._counts["cropped"] / max(1, self._counts["labels"]),
        }

    def next_batch(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """`(input_ids, labels)`, int64 (rows, T); labels are -100, and inputs 0, where a row is padded."""
        input_ids = np.zeros((rows, self.context_length), dtype=np.int64)
        labels = np.full((rows, self.context_length), IGNORED, dtype=np.int64)
        for row in range(rows):
            self._fill(input_ids[row], labels[row])
        if rows and int(labels.max()) >= self.shards.vocab_size:
            self.shards.check()
        return input_ids, labels

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands, as JSON data; see `load_state_dict`."""
        return {
            "data": self._identity(),
            "epoch": self._epoch,
            "position": self._position,
            "buffer": [list(segment) for segment in self._buffer.values()],
            "counts": dict(self._counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict()` was taken. ConfigError if it belongs to other data or arguments."""
        if state["data"] != self._identity():
            differing = [key for key, value in self._identity().items() if state["data"].get(key) != value]
            raise ConfigError(f"the saved data position belongs to other data: {', '.join(differing)} differ")
        self._begin_epoch(int(state["epoch"]))
        self._position = int(state["position"])
        self._counts = {key: int(state["counts"][key]) for key in self._counts}
        for document, start, stop in state["buffer"]:
            self._add(Segment(document, start, stop))

    def _identity(self) -> dict[str, int]:
        return {
            "documents": self.shards.num_documents,
            "tokens": self.shards.num_tokens,
            "context_length": self.context_length,
            "seed": self.seed,
            "buffer_documents": self.buffer_documents,
        }

    def _begin_epoch(self, epoch: int) -> None:
        """Draw the cuts and the order of an epoch's segments; empties the buffer."""
        self._epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        length = self.context_length
        first_cut = np.minimum(self._num_labels, length)
        long = np.flatnonzero(self._num_labels > length)
        cut = rng.integers(2, length + 1, size=len(long))
        # The last segment must hold more than the end marker: move the cut by one where it would not.
        lonely = (self._num_labels[long] - cut) % length == 1
        first_cut[long] = np.where(lonely, np.where(cut > 2, cut - 1, cut + 1), cut)
        counts = 1 + -(-(self._num_labels - first_cut) // length)
        self._first_cut = first_cut
        self._first_segment = np.concatenate([[0], np.cumsum(counts)])
        self._order = rng.permutation(int(self._first_segment[-1]))
        self._position = 0
        self._block: list[Segment] = []
        self._block_start = 0
        self._buffer.clear()
        self._by_length.clear()

    def _segment(self, position: int) -> Segment:
        """The segment at a position of the epoch's order; worked out a block at a time."""
        if not self._block_start <= position < self._block_start + len(self._block):
            ids = self._order[position : position + _BLOCK_SEGMENTS]
            index = np.searchsorted(self._first_segment, ids, side="right") - 1
            part = ids - self._first_segment[index]
            cut, length = self._first_cut[index], self.context_length
            start = np.where(part == 0, 0, cut + (part - 1) * length)
            stop = np.minimum(cut + part * length, self._num_labels[index])
            columns = (self._documents[index].tolist(), start.tolist(), stop.tolist())
            self._block = [Segment(*values) for values in zip(*columns, strict=True)]
            self._block_start = position
        return self._block[position - self._block_start]

    def _add(self, segment: Segment) -> None:
        self._buffer[self._arrivals] = segment
        insort(self._by_length, (segment.stop - segment.start, self._arrivals))
        self._arrivals += 1

    def _take(self, arrival: int) -> Segment:
        segment = self._buffer.pop(arrival)
        del self._by_length[bisect_left(self._by_length, (segment.stop - segment.start, arrival))]
        return segment

    def _refill(self) -> None:
        while len(self._buffer) < self.buffer_documents and self._position < len(self._order):
            self._add(self._segment(self._position))
            self._position += 1

    def _choose(self, gap: int) -> Segment | None:
        """The next segment for a row with room for `gap` more labels, or None to pad it."""
        if gap == self.context_length:
            return self._take(next(iter(self._buffer)))
        fitting = bisect_right(self._by_length, (gap, _FOREVER))
        if fitting:
            return self._take(self._by_length[fitting - 1][1])
        longest, arrival = self._by_length[-1]
        if gap < self._min_cut or longest - gap < 2:
            return None
        whole = self._take(arrival)
        self._add(whole._replace(start=whole.start + gap))
        return whole._replace(stop=whole.start + gap)

    def _fill(self, input_ids: np.ndarray, labels: np.ndarray) -> None:
        filled = 0
        self._refill()
        while filled < self.context_length and self._buffer:
            segment = self._choose(self.context_length - filled)
            if segment is None:
                break
            _copy(self.shards, segment, input_ids, labels, filled)
            size = segment.stop - segment.start
            filled += size
            self._counts["labels"] += size
            self._counts["cropped"] += size if segment.start else 0
            self._refill()
        self._counts["rows"] += 1
        self._counts["padded"] += self.context_length - filled
        if not self._buffer:
            self._begin_epoch(self._epoch + 1)


def evaluation_rows(shards: TokenShards, context_length: int, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`(input_ids, labels)`, int64 (rows, T), over a split once: documents in order, rows filled to the brim.

    A document that reaches the end of a row goes on in the next one after a BOS. Every token of every document,
    its end marker included, is a label exactly once; only the end of the last batch is padded (labels -100).
    """
    if context_length < 2 or rows < 1:
        raise ConfigError("evaluation needs a context_length of 2 or more and 1 row or more")
    num_labels = shards.num_labels()
    input_ids = np.zeros((rows, context_length), dtype=np.int64)
    labels = np.full((rows, context_length), IGNORED, dtype=np.int64)
    row = filled = 0
    for document in range(shards.num_documents):
        start, total = 0, int(num_labels[document])
        while start < total:
            stop = min(total, start + context_length - filled)
            _copy(shards, Segment(document, start, stop), input_ids[row], labels[row], filled)
            filled += stop - start
            start = stop
            if filled == context_length:
                row, filled = row + 1, 0
            if row == rows:
                yield _checked(shards, input_ids, labels)
                input_ids, labels, row = np.zeros_like(input_ids), np.full_like(labels, IGNORED), 0
    if row or filled:
        yield _checked(shards, input_ids, labels)


def _copy(shards: TokenShards, segment: Segment, input_ids: np.ndarray, labels: np.ndarray, at: int) -> None:
    """Write a segment into a row at position `at`: BOS and all but the last label as inputs, the labels."""
    values = shards.labels(segment.document, segment.start, segment.stop)
    end = at + len(values)
    input_ids[at] = shards.bos_id
    input_ids[at + 1 : end] = values[:-1]
    labels[at:end] = values


def _checked(shards: TokenShards, input_ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if int(labels.max()) >= shards.vocab_size:
        shards.check()
    return input_ids, labels
