"""Muon against the singular value decomposition and against torch.optim.Muon."""

from __future__ import annotations

import pytest
import torch

from bloomery.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8)])
def test_orthogonalize_keeps_singular_vectors(shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, *shape, generator=generator)
    got = orthogonalize(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ got @ v.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    # The reference's coefficients bring singular values into about [0.7, 1.2] in five iterations; a square
    # Gaussian matrix has some that start so near zero that they stay lower.
    assert values.max() < 1.25
    assert values.median() > 0.6
    off = inner - torch.diag_embed(values)
    assert off.abs().max() < 1e-3


def test_step_follows_torch_muon():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(24, 40, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = Muon([("w", ours)], lr=0.1, momentum=0.9, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    for _ in range(3):
        gradient = torch.randn(24, 40, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    moved_ours, moved_theirs = ours.detach() - start, theirs.detach() - start
    cosine = torch.cosine_similarity(moved_ours.flatten(), moved_theirs.flatten(), dim=0)
    # torch's version iterates in bfloat16 (3 significant digits), ours in float32.
    assert cosine > 0.9995
    assert moved_ours.norm() / moved_theirs.norm() == pytest.approx(1, abs=0.01)


def test_batching_by_shape_changes_nothing():
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(8, 12, generator=generator) for _ in range(3)]
    gradients = [torch.randn(8, 12, generator=generator) for _ in range(3)]
    together = [torch.nn.Parameter(w.clone()) for w in weights]
    alone = [torch.nn.Parameter(w.clone()) for w in weights]
    for p, q, g in zip(together, alone, gradients, strict=True):
        p.grad, q.grad = g.clone(), g.clone()
    Muon([(str(i), p) for i, p in enumerate(together)], lr=0.1).step()
    for i, q in enumerate(alone):
        Muon([(str(i), q)], lr=0.1).step()
    for p, q in zip(together, alone, strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_tall_matrices_step_further():
    gradient = torch.eye(8, 2)
    tall = torch.nn.Parameter(torch.zeros(8, 2))
    tall.grad = gradient
    Muon([("w", tall)], lr=1.0, momentum=0.0).step()
    norms = tall.detach().norm(dim=0)
    # sqrt(8 / 2) times singular values of about one (0.65 to 1.25 after five iterations).
    assert norms.min() > 2 * 0.65 and norms.max() < 2 * 1.25


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="matrices"):
        Muon([("b", torch.nn.Parameter(torch.zeros(3)))], lr=0.1)
