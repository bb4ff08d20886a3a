"""Overlap: how much of what is held out stands in the training data, exactly the same.

Documents of token shards are compared by their ids, examples by all their fields. Only training documents that are as
long as one that is held out are read. Near copies are what curation looks for (`corpus/dedup`), not this. This module
does not know what is done about it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.tokenizer import TokenShards
from bloomery.training.batches import BatchObjective
from bloomery.training.causal import CausalObjective
from bloomery.training.loader import ExampleLoader, RowLoader
from bloomery.training.objective import Objective

_MOST_EXAMPLES = 200_000


@dataclass(frozen=True)
class Overlap:
    """`found` of `held_out` documents or examples stand in the training data, too."""

    held_out: int
    found: int
    things: str


def overlap(objective: Objective) -> Overlap | None:
    """Between the two parts of an objective's data; None where nothing is held out, or nothing known of the data."""
    if isinstance(objective, CausalObjective):
        return _of_shards(objective.rows.shards, objective.validation)
    loader = objective.loader if isinstance(objective, BatchObjective) else None
    if isinstance(loader, RowLoader):
        return _of_shards(loader.rows.shards, loader.validation)
    if isinstance(loader, ExampleLoader):
        return _of_examples(loader.train, loader.validation)
    return None


def _of_shards(train: TokenShards, held_out: TokenShards | None) -> Overlap | None:
    if held_out is None or not held_out.num_tokens:
        return None
    lengths, ours = train.num_labels(), held_out.num_labels()
    # A document without text is the same everywhere.
    kept = np.flatnonzero(ours >= 2)
    candidates = np.flatnonzero(np.isin(lengths, np.unique(ours[kept])))
    seen = {_digest(np.asarray(train.document(int(index)))) for index in candidates}
    found = sum(_digest(np.asarray(held_out.document(int(index)))) in seen for index in kept)
    return Overlap(len(kept), found, "documents")


def _of_examples(train: Sequence[Any], held_out: Sequence[Any]) -> Overlap | None:
    if not len(held_out) or len(train) + len(held_out) > _MOST_EXAMPLES:
        return None
    seen = {_digest(example) for example in train}
    return Overlap(len(held_out), sum(_digest(example) in seen for example in held_out), "examples")


def _digest(value: Any) -> bytes:
    made = hashlib.blake2b(digest_size=16)
    _feed(made, value)
    return made.digest()


def _feed(made: Any, value: Any) -> None:
    """Every field, with its kind and length before it, so that no two different values give the same bytes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    if isinstance(value, np.ndarray):
        made.update(f"a{value.dtype.str}{value.shape}".encode())
        made.update(np.ascontiguousarray(value).data)
    elif isinstance(value, (list, tuple)):
        made.update(f"l{len(value)}".encode())
        for item in value:
            _feed(made, item)
    else:
        text = repr(value).encode("utf-8", "backslashreplace")
        made.update(f"v{len(text)}:".encode() + text)
