"""StaticStep: rows that are left over change nothing. The engine's test_static_steps compares what it computes."""

from __future__ import annotations

import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models.paged import PagedMemory, Rows
from bloomery.models.static_step import StaticStep, why_not

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
CONFIG = ModelConfig.from_hf({"model_type": "llama", **SIZES, "num_attention_heads": 4, "max_position_embeddings": 64})


@torch.inference_mode()
def test_left_over_rows():
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    found = []
    for batch, length in ((2, 8), (4, 32)):
        memory = PagedMemory(CONFIG, 64)
        for tensor in (*memory.keys, *memory.values):
            tensor.copy_(torch.linspace(-1, 1, tensor.numel()).view_as(tensor))
        step = StaticStep(memory, CONFIG, batch, length, torch.device("cpu"))
        step.fill([5, 6], [Rows(3, 1, [(8, 4)]), Rows(5, 1, [(40, 2), (20, 4)])])
        hidden = decoder.hidden_states(step.ids, cache=step)[0, :2]
        found.append((hidden, torch.stack(memory.keys)))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6) and torch.allclose(found[0][1], found[1][1], atol=1e-6)
    written = (found[0][1] != torch.linspace(-1, 1, found[0][1][0].numel()).view_as(found[0][1][0])).flatten(2).any(-1)
    assert set(written.nonzero()[:, 1].tolist()) == {11, 23}


def test_why_not():
    assert why_not(CONFIG) == ""
    bloom = ModelConfig.from_hf({"model_type": "bloom", "vocab_size": 64, "hidden_size": 32})
    assert "ALiBi" in why_not(bloom)
