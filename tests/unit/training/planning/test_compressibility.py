"""How text compresses, from its tokens, and the law that is guessed by it."""

from __future__ import annotations

import lzma

import pytest

from bloomery.tokenizer import Tokenizer, TokenShards
from bloomery.training.planning import compressibility
from bloomery.training.planning.compressibility import compressed_bits
from bloomery.training.planning.law import CONSTANTS, DEFAULT_LAW, guessed_law
from bloomery.training.pretrain_config import plan_request


def test_it_is_what_lzma_makes_of_the_documents(material, monkeypatch: pytest.MonkeyPatch):
    shards, tokenizer = TokenShards(material.tokens, "train"), Tokenizer.load(material.tokenizer.path)
    assert compressed_bits(shards, tokenizer) is None  # too little text to tell
    monkeypatch.setattr(compressibility, "_LEAST_BYTES", 1)
    texts = [tokenizer.decode(shards.document(index).tolist()) for index in range(shards.num_documents)]
    whole = "\n".join(texts).encode()
    assert compressed_bits(shards, tokenizer) == 8 * len(lzma.compress(whole, preset=6)) / len(whole)
    monkeypatch.setattr(compressibility, "SAMPLE_BYTES", 5_000)
    sample = compressibility._sample(shards, tokenizer)
    assert 4_000 < len(sample) < 5_100
    found = sample.decode().split("\n")
    assert len(found) > 5 and all(text in texts for text in found[:-1])
    # From all of the corpus, not from its beginning.
    assert texts.index(found[-2]) > shards.num_documents // 2


def test_a_law_that_is_guessed_is_ours_scaled(material, monkeypatch: pytest.MonkeyPatch):
    hard, easy = guessed_law(3.0), guessed_law(1.0)
    assert hard.expected(1e6, 1e7, 1e7) > DEFAULT_LAW.expected(1e6, 1e7, 1e7) > easy.expected(1e6, 1e7, 1e7)
    for scaled in (hard, easy):
        factor = scaled.E / DEFAULT_LAW.E
        wanted = [getattr(DEFAULT_LAW, name) * (factor if name in "EAB" else 1.0) for name in CONSTANTS]
        assert [getattr(scaled, name) for name in CONSTANTS] == pytest.approx(wanted)
        assert scaled.expected(2e5, 3e6, 4e6) == pytest.approx(factor * DEFAULT_LAW.expected(2e5, 3e6, 4e6))
    assert guessed_law(0.0) == guessed_law(0.3) and guessed_law(9.0) == guessed_law(7.0)
    monkeypatch.setattr(compressibility, "_LEAST_BYTES", 1)
    tokenizer = Tokenizer.load(material.tokenizer.path)
    request = plan_request(material.small, material.tokens, tokenizer, workspace=material.workspace)
    bits = compressed_bits(TokenShards(material.tokens, "train"), tokenizer)
    assert bits is not None and request.law == guessed_law(bits) != DEFAULT_LAW
    assert f"{bits:.2f} bits a byte" in request.reasons[0] and "--calibrate" in request.reasons[0]
