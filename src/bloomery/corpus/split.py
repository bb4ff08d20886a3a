"""Split: which of train, validation and test a document belongs to.

By hash, a document's split depends on its text alone, so it stays where it is when others are added or removed. By
position, the concatenated text is cut once, as nanoGPT does it. This module does not know files or artifacts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from bloomery.corpus.document import Document

Split = Literal["train", "validation", "test"]
_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def hash_split(digest: bytes, *, validation_fraction: float, test_fraction: float) -> Split:
    """The split of a document whose text has this SHA-256: its first 64 bits as a fraction of 2**64."""
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + validation_fraction else "train"


def own_split(document: Document) -> Split | None:
    """The split that the document's source says it belongs to (its metadata's "split"), or None."""
    said = str(document.metadata.get("split", "")).lower()
    return _NAMES.get(said)


def train_characters(characters: int, held_out_fraction: float) -> int:
    """How many leading characters train: `int(n * 0.9)` of nanoGPT for a held-out fraction of 0.1."""
    return int(characters * round(1.0 - held_out_fraction, 9))


def position_split(documents: Iterable[Document], train_length: int) -> Iterator[tuple[Split, Document]]:
    """Documents in order, the first `train_length` characters for training and the rest for validation.

    The document in which the cut falls becomes two, each with its own id.
    """
    left = train_length
    for document in documents:
        size = len(document.text)
        if size <= left:
            yield "train", document
        elif left <= 0:
            yield "validation", document
        else:
            yield "train", Document.of(document.text[:left], document.source, document.metadata)
            yield "validation", Document.of(document.text[left:], document.source, document.metadata)
        left -= size
