"""Orthogonalising against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.training import orthogonal
from bloomery.training.orthogonal import POLYNOMIALS, coefficients, direct_flops, gram_flops, orthogonalize


def _values(matrices: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """The singular values that the matrices' own singular vectors have in `got`; off the diagonal there is nothing."""
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ got @ v.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert (inner - torch.diag_embed(values)).abs().max() < 2e-3
    return values


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (12, 96)])
def test_singular_vectors_are_kept(shape: tuple[int, int], polynomial: str):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    values = _values(matrices, orthogonalize(matrices, polynomial=polynomial))
    # The reference's coefficients bring singular values into about [0.7, 1.2] in five iterations; a square
    # Gaussian matrix has some that start so near zero that they stay lower.
    assert values.max() < 1.25 and values.median() > 0.6


def test_polar_express_is_nearer_to_one():
    """From singular values of .01 to 1 it brings all within a sixth of one, Newton-Schulz within a third."""
    generator = torch.Generator().manual_seed(1)
    u, v = (torch.linalg.qr(torch.randn(24, 24, generator=generator)).Q for _ in range(2))
    matrix = (u @ torch.diag(torch.logspace(-2, 0, 24)) @ v.mT)[None]
    off = {
        name: float((_values(matrix, orthogonalize(matrix, polynomial=name)) - 1).abs().max()) for name in POLYNOMIALS
    }
    assert off["polar_express"] < 0.16 < 0.25 < off["newton_schulz"]


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
def test_the_way_by_the_gram_matrix_gives_the_same(polynomial: str):
    matrices = torch.randn(2, 12, 96, generator=torch.Generator().manual_seed(2))
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True)
    steps = coefficients(polynomial, 5)
    # Float32 sums in another order; small singular values are squared on the way.
    assert torch.allclose(orthogonal._by_gram(x, steps), orthogonal._direct(x, steps), atol=2e-4)
    assert gram_flops(12, 96, 5) < direct_flops(12, 96, 5) and gram_flops(96, 96, 5) > direct_flops(96, 96, 5)


def test_fewer_iterations_and_mistakes():
    assert len(coefficients("polar_express", 3)) == 3
    assert coefficients("polar_express", 3)[-1] == coefficients("polar_express", 5)[-1]
    with pytest.raises(ConfigError, match="unknown polynomial 'polar'") as caught:
        coefficients("polar", 5)
    assert "polar_express" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="from 1 to 5"):
        coefficients("newton_schulz", 6)


def test_many_matrices_a_few_at_a_time_are_each_as_if_alone(monkeypatch: pytest.MonkeyPatch):
    matrices = torch.randn(11, 6, 20, generator=torch.Generator().manual_seed(3))
    wanted = torch.cat([orthogonalize(one[None]) for one in matrices])
    monkeypatch.setattr(orthogonal, "_CPU_BYTES", 1)
    sizes: list[int] = []
    usual = orthogonal._orthogonal
    monkeypatch.setattr(orthogonal, "_orthogonal", lambda part, *how: sizes.append(len(part)) or usual(part, *how))
    assert torch.allclose(orthogonalize(matrices), wanted, atol=1e-5)
    assert sizes == [4, 4, 3]
