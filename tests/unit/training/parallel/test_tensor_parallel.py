"""Decoders whose layers cannot be divided; one that is divided learns in tests/integration/test_ranks.py."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, ModelConfig
from bloomery.training.parallel.tensor_parallel import split_layers


@dataclass
class _Mesh:
    """All that is asked of a mesh before a layer is divided."""

    ranks: int

    def size(self) -> int:
        return self.ranks


def _decoder(**changes) -> Decoder:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    config = {"model_type": "qwen3", "vocab_size": 50, "head_dim": 8, "num_hidden_layers": 2, **sizes, **changes}
    return Decoder(ModelConfig(max_position_embeddings=16, **config))


@pytest.mark.parametrize(
    ("changes", "ranks", "said"),
    [
        ({}, 4, "2 key-value heads cannot be divided"),
        ({"intermediate_size": 63}, 2, "feed-forward of 63"),
        ({"model_type": "bloomery", "value_embedding_layers": (1,)}, 2, "value embeddings"),
    ],
)
def test_what_cannot_be_divided(changes, ranks, said):
    with pytest.raises(ConfigError, match=said) as caught:
        split_layers(_decoder(**changes), _Mesh(ranks))
    assert "tensor_ranks=1" in caught.value.hint


def test_only_decoders():
    with pytest.raises(ConfigError, match="only a decoder"):
        split_layers(nn.Linear(2, 2), _Mesh(2))
