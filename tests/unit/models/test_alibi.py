"""ALiBi: the paper's slopes, and scores that fall with distance."""

from __future__ import annotations

import pytest
import torch

from bloomery.models.alibi import slopes, with_alibi
from bloomery.models.attention import Mask, attend, causal_mask, masked, weights

CPU = torch.device("cpu")


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 11, 12, 16, 20, 112])
def test_slopes_are_bloom_s(heads: int):
    from transformers.models.bloom.modeling_bloom import _get_alibi_slopes

    torch.testing.assert_close(torch.tensor(slopes(heads)), _get_alibi_slopes(heads, CPU), rtol=1e-6, atol=0)


def test_the_paper_s_slopes_of_eight_heads():
    assert slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


@pytest.mark.parametrize(
    ("start", "length", "window"), [(0, 6, None), (4, 3, None), (5, 1, None), (2, 5, 3), (6, 1, 2)]
)
def test_scores_fall_with_distance(start: int, length: int, window: int | None):
    slope = torch.tensor(slopes(4))
    mask = with_alibi(causal_mask(start, length, window, CPU), slope, start, length)
    rows = masked(torch.zeros(2, 4, length, start + length), mask)
    for head in range(4):
        for row in range(length):
            place = start + row
            first = 0 if window is None else max(0, place - window + 1)
            for key in range(start + length):
                expected = -float(slope[head]) * (place - key) if first <= key <= place else -torch.inf
                assert float(rows[1, head, row, key]) == pytest.approx(expected)


def test_kernel_and_open_form_agree():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = with_alibi(Mask(causal=True), torch.tensor(slopes(4)), 0, 7)
    out = attend(query, key, value, mask, scale=0.3, softcap=None)
    shares = weights(query, key, mask, scale=0.3)
    torch.testing.assert_close(shares @ value.repeat_interleave(2, 1), out, rtol=1e-4, atol=1e-5)
    # bfloat16 keeps 8 bits of numbers of about one.
    half = attend(*(x.bfloat16() for x in (query, key, value)), mask, scale=0.3, softcap=None)
    torch.testing.assert_close(half.float(), out, rtol=0, atol=0.03)
