"""Relative positions: buckets are transformers', and a bias from a later start is the lower part of the whole."""

from __future__ import annotations

import pytest
import torch

from bloomery.models.relative_bias import RelativeBias, buckets


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("count", "most"), [(32, 128), (8, 20), (16, 500)])
def test_buckets_are_the_references(bidirectional: bool, count: int, most: int):
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-700, 701)
    expected = T5Attention._relative_position_bucket(distance, bidirectional, count, most)
    got = buckets(distance, bidirectional=bidirectional, num_buckets=count, max_distance=most)
    assert torch.equal(got, expected)


def test_a_later_start():
    bias = RelativeBias(3, num_buckets=8, max_distance=20, bidirectional=False)
    whole = bias(0, 9, 9)
    assert whole.shape == (1, 3, 9, 9)
    assert torch.equal(bias(6, 3, 9), whole[:, :, 6:])
