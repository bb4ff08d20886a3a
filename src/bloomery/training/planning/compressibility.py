"""Compressibility: how many bits a byte of a corpus takes when a general compressor has done its best.

Constants of scaling laws follow it (Pandey 2024, "gzip predicts data-dependent scaling laws", arXiv 2405.16684). So a
law that was fitted on some corpora is a better guess of another one's when it is scaled by it, and costs a second
instead of minutes of training. This module does not know laws.
"""

from __future__ import annotations

import lzma
import math

import numpy as np

from bloomery.tokenizer import Tokenizer, TokenShards

SAMPLE_BYTES = 512 * 1024
"""Of text that is compressed. A compressor learns as it reads: rates of longer and shorter samples are not alike."""
_LEAST_BYTES = 64 * 1024
_MORE = 1.3
"""Times as many documents as should do, for those that are drawn may be short ones."""


def compressed_bits(shards: TokenShards, tokenizer: Tokenizer) -> float | None:
    """Bits a byte of a sample, documents from all of the corpus, by LZMA; None of too little text to tell."""
    text = _sample(shards, tokenizer)
    if len(text) < _LEAST_BYTES:
        return None
    return 8.0 * len(lzma.compress(text, preset=6)) / len(text)


def _sample(shards: TokenShards, tokenizer: Tokenizer) -> bytes:
    """UTF-8 of whole documents at equal distances, until there are SAMPLE_BYTES."""
    wanted = _MORE * SAMPLE_BYTES * shards.num_documents / max(1, shards.text_bytes)
    count = min(shards.num_documents, math.ceil(wanted))
    parts: list[bytes] = []
    left = SAMPLE_BYTES
    for index in np.linspace(0, shards.num_documents - 1, count).astype(int).tolist():
        ids = shards.document(index)[: left + 1]  # a token of text is no less than a byte
        parts.append(tokenizer.decode(ids.tolist()).encode()[:left])
        left -= len(parts[-1])
        if left <= 0:
            break
    return b"\n".join(parts)
