"""Bigram embedding: equal pairs share a row, pairs spread over the table, and the token before counts."""

from __future__ import annotations

import torch

from bloomery.models.bigrams import BigramEmbedding, pair_rows


def test_rows_are_spread_and_stay_the_same():
    previous, current = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    rows = pair_rows(previous, current, 1000)
    assert int(rows.min()) >= 0 and int(rows.max()) < 1000
    counts = rows.flatten().bincount(minlength=1000).double()
    expected = 512 * 512 / 1000
    # Chi-squared of 999 degrees of freedom is beyond 1,200 once in 100,000 times for random rows.
    assert float(((counts - expected) ** 2 / expected).sum()) < 1200
    # Trained tables depend on these numbers.
    assert pair_rows(torch.tensor([0, 1, 7, 1 << 22]), torch.tensor([0, 2, 5, 3]), 1 << 16).tolist() == [
        0,
        18947,
        37975,
        60895,
    ]


def test_order_counts():
    torch.manual_seed(0)
    embedding = BigramEmbedding(257, 4)
    ids, previous = torch.tensor([[3, 9, 3, 9, 9]]), torch.tensor([[50, 3, 9, 3, 9]])
    out = embedding(ids, previous)
    assert torch.equal(out[0, 1], out[0, 3]) and not torch.equal(out[0, 1], out[0, 2])
    assert torch.equal(out, embedding.table.weight[pair_rows(previous, ids, 257)])


def test_ids_of_fewer_bits_have_the_same_rows():
    ids = torch.tensor([[3, 70000, 2**22 - 1]])
    expected = pair_rows(ids, ids.flip(1), 4099)
    assert torch.equal(pair_rows(ids.int(), ids.flip(1).int(), 4099), expected)
