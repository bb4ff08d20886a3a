"""What a model has to beat in bits per byte: compressors, a unigram over tokens, an n-gram over bytes.

Every baseline pays for where documents end, as the model does: texts are joined with a NUL byte for the
compressors, with an end symbol for the rest; the bytes divided by are those of the texts alone. Compressors see the
test text only; unigram and n-gram are counted on the training split. This module does not know models.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.core.artifact import Artifact
from bloomery.corpus import read_documents
from bloomery.evaluate.ngram import WittenBell, symbols
from bloomery.tokenizer import Tokenizer, TokenShards

_SEPARATOR = b"\x00"
MAX_NGRAM_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Baseline:
    """`bits_per_byte` of the test split; `sees` says what the method knew beforehand."""

    name: str
    bits_per_byte: float
    sees: str


def compressors(texts: Sequence[bytes]) -> list[Baseline]:
    """xz -9 (the .xz container, preset 9, as the tool writes it) and zstd -19."""
    import zstandard

    joined = _SEPARATOR.join(texts)
    num_bytes = max(1, sum(map(len, texts)))
    packed = {
        "xz -9": lzma.compress(joined, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9),
        "zstd -19": zstandard.ZstdCompressor(level=19).compress(joined),
    }
    return [Baseline(name, 8 * len(data) / num_bytes, "test text alone") for name, data in packed.items()]


def token_unigram(tokens: Artifact, tokenizer: Tokenizer, split: str = "test") -> Baseline:
    """Each token by its frequency in the training split, one added to every count (Laplace)."""
    counts = np.ones(tokenizer.vocab_size)
    for piece in _pieces(TokenShards(tokens, "train")):
        counts += np.bincount(piece, minlength=len(counts))
    bits = -np.log2(counts / counts.sum())
    test = TokenShards(tokens, split)
    total = sum(float(bits[piece].sum()) for piece in _pieces(test))
    return Baseline("unigram (tokens)", total / max(1, test.text_bytes), "token counts of the training split")


def byte_ngram(corpus: Artifact, texts: Sequence[bytes], *, order: int = 5) -> Baseline:
    """Witten-Bell over bytes, trained on the training split (its first 256 MiB)."""
    model = WittenBell(symbols(_limited(corpus)), order=order)
    return Baseline(f"{order}-gram (bytes, Witten-Bell)", model.bits_per_byte(texts), "training split")


def split_texts(corpus: Artifact, split: str) -> list[bytes]:
    """The documents of a split as UTF-8."""
    return [document.text.encode() for document in read_documents(corpus, split)]


def _limited(corpus: Artifact) -> Iterable[bytes]:
    left = MAX_NGRAM_BYTES
    for document in read_documents(corpus, "train"):
        text = document.text.encode()
        left -= len(text)
        if left < 0:
            return
        yield text


def _pieces(shards: TokenShards) -> Iterable[np.ndarray]:
    for index in range(shards.num_documents):
        yield np.asarray(shards.document(index), dtype=np.int64)
