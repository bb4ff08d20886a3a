"""RowAdam against Adam: the same where every row has a gradient, nothing where a row has none."""

from __future__ import annotations

import torch

from bloomery.training.row_adam import RowAdam


def _tables() -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    start = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())


def test_a_row_moves_as_adam_moves_a_table_of_the_rows_that_are_touched():
    ours, theirs = _tables()
    mine = RowAdam([ours], lr=0.1, betas=(0.8, 0.9))
    each = [torch.nn.Parameter(row.detach().clone()) for row in theirs]
    references = [torch.optim.Adam([row], lr=0.1, betas=(0.8, 0.9)) for row in each]
    generator = torch.Generator().manual_seed(1)
    for touched in ([0, 2], [2, 5, 6], [0, 1, 2, 3, 4, 5, 6], [2]):
        gradient = torch.zeros(7, 3)
        gradient[touched] = torch.randn(len(touched), 3, generator=generator)
        ours.grad = gradient
        mine.step()
        for row in touched:
            each[row].grad = gradient[row]
            references[row].step()
    assert torch.allclose(ours, torch.stack([row.detach() for row in each]), atol=1e-6)
    assert mine.state[ours]["steps"][:, 0].tolist() == [2, 1, 4, 1, 1, 2, 2]


def test_what_has_no_gradient_stays():
    ours, theirs = _tables()
    optimizer = RowAdam([ours], lr=0.1)
    optimizer.step()
    ours.grad = torch.zeros(7, 3)
    optimizer.step()
    ours.grad = torch.zeros(7, 3).index_fill_(0, torch.tensor([4]), 1.0)
    optimizer.step()
    moved = (ours != theirs).any(dim=1)
    assert moved.tolist() == [False] * 4 + [True] + [False] * 2
    # The first update of a row is as long as the rate.
    assert torch.allclose((theirs - ours)[4], torch.full((3,), 0.1), atol=1e-6)
