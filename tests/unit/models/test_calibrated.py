"""GPTQ against its definition, solved anew for every input by least squares, and against rounding to the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models.calibrated import calibrated, cost, fitted
from bloomery.models.compressed import scheme_named
from bloomery.models.pretrained import load_with_codes, save_quantized
from bloomery.models.quantize import quantize


def _layer(seed: int, outputs: int = 24, inputs: int = 64, rank: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and x xT of inputs that depend on one another, as those of real layers do."""
    draw = torch.Generator().manual_seed(seed)
    inner = torch.randn(512, rank, generator=draw) @ torch.randn(rank, inputs, generator=draw)
    x = inner + 0.3 * torch.randn(512, inputs, generator=draw)
    return torch.randn(outputs, inputs, generator=draw), x.T @ x


def _by_least_squares(weight: torch.Tensor, hessian: torch.Tensor, bits: int, group_size: int | None) -> np.ndarray:
    """Input after input is rounded, and those left take the values that keep the outputs nearest to what they were."""
    h, w = hessian.double().numpy(), weight.double().numpy()
    h = h + np.eye(len(h)) * 0.01 * h.diagonal().mean()
    start = quantize(weight, bits, group_size, importance=torch.from_numpy(h.diagonal().copy()))
    scales = start.scale.repeat_interleave(start.group_size, dim=1).double().numpy()
    root = np.linalg.cholesky(h).T  # ||root (w - q)||^2 is the cost
    high = 2 ** (bits - 1) - 1
    codes, now = np.zeros(w.shape), w.copy()
    order = np.argsort(-h.diagonal(), kind="stable")
    for place, i in enumerate(order):
        codes[:, i] = np.clip(np.round(now[:, i] / scales[:, i]), -high - 1, high)
        done, rest = order[: place + 1], order[place + 1 :]
        target = root @ w.T - root[:, done] @ (codes[:, done] * scales[:, done]).T
        now[:, rest] = np.linalg.lstsq(root[:, rest], target, rcond=None)[0].T
    return codes


def _decoder(**changes: Any) -> Decoder:
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return Decoder(ModelConfig(**{**sizes, **heads, **changes}))


@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (4, None), (8, None)])
def test_codes_are_those_of_the_definition(bits: int, group_size: int | None):
    weight, hessian = _layer(0)
    made = fitted(weight, hessian, bits, group_size)
    expected = _by_least_squares(weight, hessian, bits, group_size)
    # Computed in float32 here: a value halfway between two codes may fall to either side.
    assert (made.codes.numpy() == expected).mean() > 0.995


def test_inputs_beyond_a_block_are_corrected_too():
    weight, hessian = _layer(1, inputs=320, rank=20)
    expected = _by_least_squares(weight, hessian, 4, 32)
    assert (fitted(weight, hessian, 4, 32).codes.numpy() == expected).mean() > 0.995


@pytest.mark.parametrize("bits", [4, 8])
def test_outputs_change_less_than_of_nearest_codes(bits: int):
    for seed in range(3):
        weight, hessian = _layer(seed)
        group_size = 32 if bits == 4 else None
        assert cost(weight, fitted(weight, hessian, bits, group_size), hessian) < 0.5 * cost(
            weight, quantize(weight, bits, group_size), hessian
        )


def test_inputs_that_never_come_and_none_at_all():
    weight, hessian = _layer(0)
    hessian[5], hessian[:, 5] = 0, 0
    made = fitted(weight, hessian, 4, 32)
    assert bool((made.dequantized()[:, 5] - weight[:, 5]).abs().max() < 0.5 * weight.abs().max())
    nothing = fitted(weight, torch.zeros_like(hessian), 4, 32)
    assert nothing.codes.shape == weight.shape and bool(nothing.scale.isfinite().all())


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "llama"},
        {"model_type": "phi3", "hidden_act": "silu"},
        {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ],
    ids=lambda changes: changes["model_type"],
)
@pytest.mark.parametrize("kind", ["int8", "int8-groups", "int4"])
def test_files_have_the_integers(tmp_path: Path, changes: dict[str, Any], kind: str):
    decoder = _decoder(**changes)
    scheme, heard = scheme_named(kind, 32), []
    ids = torch.randint(0, 96, (2, 33), generator=torch.Generator().manual_seed(1))
    known = calibrated(decoder, scheme.bits, scheme.group_size, [ids], progress=lambda *at: heard.append(at))
    assert heard[-1][0] == heard[-1][1] == len(heard)
    save_quantized(decoder, tmp_path, scheme, known=known)
    read = load_with_codes(tmp_path)[1]
    assert read.keys() >= known.keys() and known
    for name, one in known.items():
        assert torch.equal(read[name].codes, one.codes) and torch.equal(read[name].scale, one.scale), name


def test_layers_that_do_not_fit_together_are_fitted_in_turn(monkeypatch: pytest.MonkeyPatch):
    """The same integers, whatever memory there is; and progress tells of all."""
    decoder, ids = _decoder(), [torch.randint(64, (2, 24), generator=torch.Generator().manual_seed(1))]
    heard: list[tuple[int, int]] = []
    whole = calibrated(decoder, 4, 32, ids)
    monkeypatch.setattr("bloomery.models.calibrated._SHARE", 0.0)
    parts = calibrated(decoder, 4, 32, iter(ids), progress=lambda *at: heard.append(at))
    assert heard == [(number, len(heard)) for number in range(1, len(heard) + 1)] and len(heard) > 1
    assert whole.keys() == parts.keys() and whole
    for name, one in whole.items():
        assert torch.equal(one.codes, parts[name].codes) and torch.equal(one.scale, parts[name].scale)
