"""The memory model against what PyTorch keeps, and what a container allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models import fused as fused_parts
from bloomery.training.causal import causal_loss
from bloomery.training.planning.memory import (
    available_memory,
    container_limit,
    fitting_rows,
    saved_bytes,
    training_memory,
)
from bloomery.training.planning.shapes import shaped

BASE = ModelConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=64,
)
CPU = torch.device("cpu")


@pytest.mark.parametrize("rung", [(2, 128), (3, 192), (2, 256)])
@pytest.mark.parametrize("fused", [False, True])
def test_activations_are_those_that_pytorch_saves(rung: tuple[int, int], fused: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fused_parts, "pays", lambda x: fused)
    model = Decoder(shaped(BASE, *rung))
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    ids = torch.zeros(2, 64, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        causal_loss(model.hidden_states, model.output_weight, ids, ids)
    # What is left out are the norms' and the softmax's one number a token or head.
    assert saved_bytes(model.config, 128, fused=fused) == pytest.approx(sum(sizes.values()), rel=0.05)


def test_more_rows_take_more_memory():
    few, many = (
        training_memory(shaped(BASE, 8, 512), micro_tokens=tokens, precision="float32", device=CPU)
        for tokens in (1024, 16384)
    )
    assert few.central is not None and many.low is not None and few.central < many.low


def test_a_batch_is_cut_until_it_fits():
    config = shaped(BASE, 8, 512)
    how = {"context_length": 1024, "precision": "float32", "device": CPU}
    assert fitting_rows(config, 16, available=1e12, **how) == 16
    parts = [fitting_rows(config, 16, available=a * 1e7, **how) for a in range(1, 2400)]
    assert parts == sorted(parts) and set(parts) == {0, 1, 2, 4, 8, 16}


def test_what_is_there():
    assert 0 < available_memory(CPU) < 1e14


@pytest.mark.parametrize(("text", "limit"), [("1048576\n", 1048576.0), ("max\n", None)])
def test_a_container_has_a_limit(tmp_path: Path, text: str, limit: float | None):
    (tmp_path / "memory.max").write_text(text)
    assert container_limit(tmp_path) == limit
    assert container_limit(tmp_path / "none") is None
