"""Muon against torch.optim.Muon, and its refinements against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.training.muon import Muon, feed_block, turn
from bloomery.training.orthogonal import orthogonalize


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


def _moved(start: torch.Tensor, gradients: list[torch.Tensor], **settings) -> list[torch.Tensor]:
    """Where a matrix is after each step with a gradient."""
    parameter, found = torch.nn.Parameter(start.clone()), []
    optimizer = Muon([("w", parameter)], **settings)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        found.append(parameter.detach().clone())
    return found


def _gradients(shape: tuple[int, int], count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_second_moments_follow_normuon(shape: tuple[int, int]):
    """NorMuon's formula in NumPy, over the updates that Muon makes without it."""
    start, gradients = torch.zeros(shape), _gradients(shape, 3)
    plain = [torch.zeros(shape), *_moved(start, gradients, lr=1.0)]
    got = [torch.zeros(shape), *_moved(start, gradients, lr=1.0, second_beta=0.8)]
    axis = 1 if shape[0] >= shape[1] else 0
    moment = 0.0
    for step in range(3):
        update = (plain[step] - plain[step + 1]).numpy()
        moment = 0.8 * moment + 0.2 * np.square(update).mean(axis=axis, keepdims=True)
        evened = update / np.sqrt(moment)
        evened *= np.linalg.norm(update) / np.linalg.norm(evened)
        np.testing.assert_allclose((got[step] - got[step + 1]).numpy(), evened, atol=1e-5)


def test_cautious_decay_spares_what_the_update_lets_grow():
    start, gradients = torch.randn(8, 8, generator=torch.Generator().manual_seed(4)), _gradients((8, 8), 1)
    (plain,) = _moved(start, gradients, lr=0.1)
    (decayed,) = _moved(start, gradients, lr=0.1, weight_decay=0.5, cautious=True)
    shrinks = (start - plain) * start > 0
    assert 0 < shrinks.sum() < 64
    assert torch.allclose(decayed, plain - 0.1 * 0.5 * start * shrinks, atol=1e-6)


def test_momentum_warms_up():
    """With momentum m, a step's direction is that of g (1 - m) + m ((1 - m) g + m buffer)."""
    start, gradients = torch.zeros(8, 8), _gradients((8, 8), 3)
    first, *_ = _moved(start, gradients, lr=0.1, momentum=0.95, momentum_warmup=2)
    assert torch.equal(first, _moved(start, gradients, lr=0.1, momentum=0.85)[0])
    parameter = torch.nn.Parameter(start.clone())
    optimizer = Muon([("w", parameter)], lr=0.1, momentum=0.95, momentum_warmup=2)
    buffer = torch.zeros(8, 8)
    for gradient, momentum in zip(gradients, (0.85, 0.9, 0.95), strict=True):
        parameter.grad = gradient.clone()
        optimizer.step()
        buffer = momentum * buffer + (1 - momentum) * gradient
        assert torch.allclose(optimizer.state[parameter]["momentum_buffer"], buffer, atol=1e-6)


@pytest.mark.parametrize("polynomial", ["newton_schulz", "polar_express"])
def test_the_polynomial_is_the_one_that_was_asked_for(polynomial: str):
    gradients = _gradients((8, 12), 1)
    (got,) = _moved(torch.zeros(8, 12), gradients, lr=1.0, momentum=0.0, polynomial=polynomial, iterations=4)
    assert torch.allclose(-got, orthogonalize(gradients[0][None], polynomial=polynomial, iterations=4)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["q_proj.weight", "o_proj.weight"])
def test_blocks_are_orthogonalised_by_themselves(name: str):
    """Blocks of 8 of 24 neurons, which are rows or, of a matrix that writes, columns; as long as a whole update."""
    gradient = torch.randn(24, 16, generator=torch.Generator().manual_seed(5))
    writes = name.startswith("o")
    parameter = torch.nn.Parameter(torch.zeros(16, 24) if writes else torch.zeros(24, 16))
    parameter.grad = gradient.T.contiguous() if writes else gradient.clone()
    Muon([(name, parameter)], lr=1.0, momentum=0.0, blocks=(8, 4), polynomial="polar_express").step()
    got = -(parameter.detach().T if writes else parameter.detach())
    scale = got.norm()
    for start in range(0, 24, 8):
        block = got[start : start + 8]
        wanted = orthogonalize(gradient[None, start : start + 8], polynomial="polar_express")[0]
        assert torch.allclose(block / block.norm(), wanted / wanted.norm(), atol=1e-5)
    # 16 singular values of about one, and for the tall matrix the factor sqrt(24 / 16).
    assert scale == pytest.approx(4 * (1 if writes else 1.5**0.5), rel=0.1)


def test_what_cannot_be_cut_is_taken_whole():
    gradients = _gradients((12, 8), 1)
    (whole,) = _moved(torch.zeros(12, 8), gradients, lr=1.0)
    (uncut,) = _moved(torch.zeros(12, 8), gradients, lr=1.0, blocks=(5, 7))
    assert torch.equal(whole, uncut)


@pytest.mark.parametrize(
    ("neurons", "stream", "least", "block"),
    [
        (1024, 384, 128, 128),
        (1365, 512, 128, 195),
        (2048, 768, 128, 256),
        (384, 128, 64, 64),
        (97, 32, 8, 0),
        (8, 8, 0, 0),
    ],
)
def test_a_feed_forwards_blocks_are_equal_and_not_too_small(neurons: int, stream: int, least: int, block: int):
    assert feed_block(neurons, stream, least) == block


def test_cautious_decay_is_the_papers_where_an_update_is_zero():
    """x <- x - lr (u + decay x [u x >= 0]) (arXiv 2510.12402, algorithm 1): rows without a gradient decay."""
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    gradient = torch.zeros(4, 6)
    gradient[0] = torch.randn(6, generator=torch.Generator().manual_seed(6))
    (decayed,) = _moved(start, [gradient], lr=0.1, weight_decay=0.5, cautious=True)
    assert torch.allclose(decayed[1:], start[1:] * (1 - 0.1 * 0.5), atol=1e-6)


def test_now_and_then_a_matrix_in_blocks_is_taken_whole():
    """Every third step of `q_proj`, beginning where its name says, and of another matrix at another step."""
    names = ["layers.0.self_attn.q_proj.weight", "layers.1.self_attn.q_proj.weight"]
    start, gradients = torch.zeros(24, 16), _gradients((24, 16), 6)
    how = {"lr": 1.0, "momentum": 0.0}
    whole = [_moved(start, [gradient], **how)[0] for gradient in gradients]
    found = []
    for name in names:
        parameter = torch.nn.Parameter(start.clone())
        optimizer = Muon([(name, parameter)], blocks=(8, 0), whole_every=3, **how)
        steps = []
        for gradient, update in zip(gradients, whole, strict=True):
            before, parameter.grad = parameter.detach().clone(), gradient.clone()
            optimizer.step()
            steps.append(torch.allclose(parameter.detach() - before, update, atol=1e-5))
        found.append([step for step, taken in enumerate(steps) if taken])
    assert found[0] == [step for step in range(6) if (step + turn(names[0])) % 3 == 0]
    assert found[1] == [step for step in range(6) if (step + turn(names[0]) + 1) % 3 == 0]


def test_about_as_many_matrices_are_taken_whole_at_every_step():
    kinds = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    kinds += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    turns = [turn(f"model.layers.{layer}.{kind}.weight") % 5 for layer in range(10) for kind in kinds]
    assert [turns.count(number) for number in range(5)] == [14] * 5
