"""Embeddings: neighbours against the formula, and a plane that keeps distances."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError, RequestError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.embeddings import embedding_of, neighbours, plane
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq


def test_neighbours_by_cosine(monkeypatch: pytest.MonkeyPatch):
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    unit = rows / rows.norm(dim=1, keepdim=True)
    cosines = unit @ unit[7]
    expected = [n for n in cosines.argsort(descending=True).tolist() if n != 7][:5]
    ids, values = neighbours(rows, 7, top=5)
    assert ids.tolist() == expected and torch.allclose(values, cosines[expected], atol=1e-6)
    monkeypatch.setattr("bloomery.models.embeddings._ROWS_AT_ONCE", 9)
    assert neighbours(rows, 7, top=5)[0].tolist() == expected
    assert len(neighbours(rows, 0, top=99)[0]) == 49
    for index, top in ((50, 1), (-1, 1), (0, 0)):
        with pytest.raises(RequestError):
            neighbours(rows, index, top=top)


def test_the_plane_keeps_most_of_the_spread():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(12, 2, generator=generator) @ torch.randn(2, 9, generator=generator) + 3
    found = plane(flat)
    # Points of a plane keep their distances.
    assert torch.allclose(torch.cdist(found, found), torch.cdist(flat, flat), atol=1e-4)
    assert torch.allclose(found.mean(dim=0), torch.zeros(2), atol=1e-5) and (found[0] >= 0).all()
    assert plane(torch.ones(1, 4)).tolist() == [[0.0, 0.0]]


def test_which_rows():
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    decoder = Decoder(ModelConfig(**sizes, **heads, max_position_embeddings=8))
    assert embedding_of(decoder) is decoder.model.embed_tokens.weight
    net = RecurrentSeq2Seq(RecurrentConfig(source_vocab_size=20, target_vocab_size=30, hidden_size=8))
    assert embedding_of(net).size(0) == 20
    with pytest.raises(ConfigError, match="Linear"):
        embedding_of(nn.Linear(2, 2))
