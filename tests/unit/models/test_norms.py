"""Norms against transformers' and PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.norms import NORMS, BareRMSNorm, RMSNorm, make_norm


def _x(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["rms", "rms_from_one"])
def test_rms_is_the_reference(kind: str, dtype: torch.dtype):
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    ours = make_norm(kind, 32, 1e-5).to(dtype)
    theirs = (LlamaRMSNorm if kind == "rms" else Gemma2RMSNorm)(32, 1e-5).to(dtype)
    with torch.no_grad():
        ours.weight.add_(torch.randn(32, generator=torch.Generator().manual_seed(1)).to(dtype))  # type: ignore[operator]
    theirs.load_state_dict(ours.state_dict())
    # Float32: the fused kernel sums in another order. Bfloat16: one rounding of 2^-8 may fall otherwise.
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-3}
    torch.testing.assert_close(ours(_x(dtype)), theirs(_x(dtype)), **tolerance)
    assert ours(_x(dtype)).dtype == dtype


def test_fresh_norms_do_not_scale():
    for kind in NORMS:
        out = make_norm(kind, 32, 1e-6)(_x())
        torch.testing.assert_close(out.square().mean(-1), torch.ones(3, 5), rtol=0.05, atol=0.0)


def test_parameters():
    counts = {kind: sum(p.numel() for p in make_norm(kind, 32, 1e-6).parameters()) for kind in NORMS}
    assert counts == {"rms": 32, "rms_from_one": 32, "rms_bare": 0, "layer": 64, "layer_no_bias": 32, "layer_bare": 0}


def test_bare_is_a_weight_of_ones():
    torch.testing.assert_close(BareRMSNorm(32, 1e-6)(_x()), RMSNorm(32, 1e-6)(_x()))


def test_unknown_kind():
    with pytest.raises(ConfigError, match="rmss"):
        make_norm("rmss", 32, 1e-6)
