"""Shapes against the decoder that is built from them, and operations against those that PyTorch counts."""

from __future__ import annotations

import runpy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bloomery.models import Decoder
from bloomery.training.causal import causal_loss
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.planning.shapes import (
    LADDER,
    matrix_parameters,
    shaped,
    step_flops,
    total_parameters,
    update_flops,
)

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]


@pytest.mark.parametrize("rung", LADDER[:4])
def test_parameters_are_those_of_the_decoder(rung: tuple[int, int]):
    decoder = Decoder(shaped(BASE, *rung))
    counted = sum(p.numel() for n, p in decoder.named_parameters() if p.ndim == 2 and "layers" in n)
    assert matrix_parameters(decoder.config) == counted
    assert total_parameters(decoder.config) == sum(p.numel() for p in decoder.parameters())


def test_the_ladder_ascends():
    sizes = [matrix_parameters(shaped(BASE, *rung)) for rung in LADDER]
    assert sizes == sorted(sizes)
    assert max(b / a for a, b in pairwise(sizes)) < 3


def test_a_rung_keeps_what_is_on_every_second_layer():
    own = replace(BASE, model_type="bloomery", value_embedding_layers=(1,), bigram_vocab_size=64)
    assert shaped(own, 5, 320).value_embedding_layers == (0, 2, 4)
    assert shaped(own, 5, 320).bigram_vocab_size == 64


def test_step_flops_are_six_a_parameter_and_attention():
    matrices = matrix_parameters(BASE) + 512 * 128
    assert step_flops(BASE, 1000, 64) == 6 * 1000 * (matrices + 2 * 2 * 64 * 64)


def test_step_flops_are_about_those_that_pytorch_counts():
    model, ids = Decoder(BASE), torch.zeros(2, 64, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        causal_loss(model.hidden_states, model.output_weight, ids, ids).backward()
    # Its count of attention is of all positions where ours is of the causal half, or of none where the kernel is
    # unknown to it; attention is 13% of this shape.
    assert step_flops(BASE, 128, 64) == pytest.approx(counter.get_total_flops(), rel=0.15)


WHOLE = {"matrix_by_head": False, "matrix_feed_block": 0}


@pytest.mark.parametrize("how", [{}, WHOLE, {"matrix_iterations": 3}, {"matrix_whole_every": 0}])
@pytest.mark.parametrize("rung", [(2, 128), (1, 384)])
def test_update_flops_are_those_that_pytorch_counts(how: dict[str, Any], rung: tuple[int, int]):
    model, optimizer = Decoder(shaped(BASE, *rung)), OptimizerConfig(**how)
    optimizers, steps = Optimizers(model, optimizer), optimizer.matrix_whole_every or 1
    with FlopCounterMode(display=False) as counter:
        for _ in range(steps):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizers.step(0.01)
    assert steps * update_flops(model.config, optimizer) == pytest.approx(counter.get_total_flops(), rel=1e-12)
    assert update_flops(model.config) < update_flops(model.config, OptimizerConfig(**WHOLE))
