"""The memory model against what PyTorch keeps."""

from __future__ import annotations

import runpy
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from bloomery.models import Decoder
from bloomery.models import fused as fused_parts
from bloomery.models.config import every_second_layer
from bloomery.training.causal import causal_loss
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.planning.memory import (
    available_memory,
    fitting_rows,
    parts_of,
    saved_bytes,
    training_memory,
)
from bloomery.training.planning.shapes import shaped, update_floats

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
CPU = torch.device("cpu")
FAST = {"model_type": "bloomery", "smear": True, "bigram_vocab_size": 256}


@pytest.mark.parametrize("rung", [(2, 128), (3, 192), (2, 256)])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_activations_are_those_that_pytorch_saves(
    rung: tuple[int, int], fused: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fused_parts, "pays", lambda x: fused)
    base = replace(BASE, value_embedding_layers=every_second_layer(2), **FAST) if fast else BASE
    model = Decoder(shaped(base, *rung))
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


def test_parts_divide_their_batch():
    assert [parts_of(16, most) for most in (0, 1, 5, 8, 16, 64)] == [16, 1, 4, 8, 16, 16]
    assert parts_of(12, 5) == 4 and parts_of(7, 6) == 1


@pytest.mark.parametrize("how", [{}, {"matrix_by_head": False, "matrix_feed_block": 0}])
def test_an_update_needs_what_pytorch_allocates(how: dict[str, object]):
    config, optimizer = shaped(BASE, 2, 384), OptimizerConfig(**how)  # type: ignore[arg-type]
    model = Decoder(config)
    optimizers = Optimizers(model, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers.step(1e-3)  # the state is there
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    with torch.profiler.profile(profile_memory=True) as profile:
        optimizers.parts["muon"].step()
    results: Any = profile.profiler
    events = results.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    height = max(accumulate(size for _, size in changes))
    # Which temporary results are let go of a moment later than they could be is not counted.
    assert 4 * update_floats(config, optimizer) == pytest.approx(height, rel=0.25)


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


def test_what_this_process_may_have_is_what_is_free_and_what_it_holds():
    held = psutil.Process().memory_info().rss
    assert held < available_memory(CPU) < psutil.virtual_memory().total + held
