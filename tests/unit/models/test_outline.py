"""Outline: shapes without values, and without PyTorch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from bloomery.models.outline import shapes_only


def test_parameters_have_shapes_and_no_values() -> None:
    with shapes_only():
        layers = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 3), nn.LayerNorm(3))
        nn.init.normal_(tensor=layers[0].weight)
    assert all(parameter.is_meta for parameter in layers.parameters())
    assert [tuple(parameter.shape) for parameter in layers.parameters()] == [(7, 5), (3, 5), (3,), (3,), (3,)]


def test_outside_and_for_real_tensors_numbers_are_drawn() -> None:
    with shapes_only():
        real = torch.zeros(50, device="cpu")
        nn.init.normal_(real)
    assert float(real.std()) > 0.5
    torch.manual_seed(0)
    drawn = nn.Embedding(7, 5)
    torch.manual_seed(0)
    assert torch.equal(drawn.weight, torch.empty(7, 5).normal_())


def test_the_compiler_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from bloomery.models import Decoder, ModelConfig\n"
        "from bloomery.models.outline import shapes_only\n"
        "sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)\n"
        "config = ModelConfig(vocab_size=9, **sizes, num_key_value_heads=1, head_dim=8, max_position_embeddings=8)\n"
        "with shapes_only():\n    Decoder(config)\n"
        "assert not [name for name in sys.modules if name.startswith('torch._dynamo')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
