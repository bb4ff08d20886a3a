"""The key/value cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.models import KVCache, ModelConfig

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
)


def test_writes_in_place_and_crops():
    cache = KVCache(CONFIG, 3, 10)
    assert cache.num_bytes == 2 * 2 * 3 * 2 * 10 * 8 * 4
    first = torch.randn(3, 2, 4, 8)
    cache.write(0, first, first * 2)
    cache.length = 4
    second = torch.randn(3, 2, 1, 8)
    keys, values = cache.write(0, second, second * 2)
    assert torch.equal(keys, torch.cat([first, second], dim=2)) and torch.equal(values, keys * 2)
    assert keys.data_ptr() == cache.keys.data_ptr()
    cache.crop(2)
    keys, _ = cache.write(0, second, second)
    assert torch.equal(keys, torch.cat([first[:, :, :2], second], dim=2))
    with pytest.raises(ValueError, match="cannot crop"):
        cache.crop(3)
    cache.reset()
    assert cache.length == 0


def test_ids_are_kept_for_a_decoder_that_hashes_pairs():
    config = replace(CONFIG, model_type="bloomery", bigram_vocab_size=9)
    cache = KVCache(config, 2, 6)
    assert cache.previous(torch.tensor([[1, 2, 3], [4, 5, 6]]), 50).tolist() == [[50, 1, 2], [50, 4, 5]]
    cache.length = 3
    assert cache.previous(torch.tensor([[7], [8]]), 50).tolist() == [[3], [6]]
    cache.crop(1)
    assert cache.previous(torch.tensor([[9, 2], [9, 3]]), 50).tolist() == [[1, 9], [4, 9]]
    assert cache.num_bytes == KVCache(CONFIG, 2, 6).num_bytes + 2 * 6 * 8


def test_a_batch_of_another_size_is_refused():
    cache = KVCache(CONFIG, 2, 10)
    one = torch.ones(1, 2, 3, 8)
    with pytest.raises(ValueError, match="a batch of 1 does not fit a cache for 2"):
        cache.write(0, one, one)
    assert not cache.keys.any()


def test_a_full_cache_says_so():
    cache = KVCache(CONFIG, 1, 10)
    cache.reserve(10)
    with pytest.raises(RequestError, match="do not fit a cache of 10") as caught:
        cache.reserve(11)
    assert caught.value.code == "context_length_exceeded"
