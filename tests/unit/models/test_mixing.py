"""Smear and lambdas: against their formulas in NumPy, and their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.models.mixing import ResidualMix, Smear, _Mixed, shifted


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_smear_follows_its_formula():
    smear = Smear(40).double()
    with torch.no_grad():
        smear.gate.copy_(_random(1, 24))
        smear.scale.fill_(0.7)
    x = _random(2, 5, 40)
    got = smear(x, shifted(x)).detach().numpy()
    values = x.numpy()
    before = np.concatenate([np.zeros((2, 1, 40)), values[:, :-1]], axis=1)
    gate = 0.7 / (1 + np.exp(-values[..., :24] @ smear.gate.detach().numpy()[0]))
    np.testing.assert_allclose(got, values + gate[..., None] * before, rtol=1e-12)
    assert torch.equal(
        Smear(8)(x[..., :8].float(), x[..., 8:16].float()), x[..., :8].float()
    )  # a fresh one adds nothing


@pytest.mark.parametrize(("resid", "x0"), [(True, True), (True, False), (False, True)])
def test_lambdas_scale_the_stream_and_add_the_input(resid: bool, x0: bool):
    mix = ResidualMix(3, resid=resid, x0=x0).double()
    x, begun = _random(2, 3, 4).requires_grad_(), _random(2, 4, 3).view(2, 3, 4).requires_grad_()
    a = np.linspace(1.15, 1.05, 3) if resid else np.ones(3)
    b = np.linspace(0.2, 0.05, 3) if x0 else np.zeros(3)
    for layer in range(3):
        wanted = a[layer] * x.detach().numpy() + b[layer] * begun.detach().numpy()
        got = mix(x, begun, layer)
        np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-6)  # the numbers are float32's
        with torch.no_grad():
            assert torch.allclose(mix(x, begun, layer), got)
    parameters = [p for p in (mix.resid, mix.x0) if p is not None]
    torch.autograd.gradcheck(lambda *_: mix(x, begun, 1), (x, begun, *parameters))
    torch.autograd.gradcheck(
        _Mixed.apply, (x, begun, *(torch.tensor(v, dtype=x.dtype, requires_grad=True) for v in (1.1, 0.3)))
    )
