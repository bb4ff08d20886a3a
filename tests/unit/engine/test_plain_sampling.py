"""Plain sampling beside PyTorch's: the same tokens kept, the same ones drawn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.engine import sampling
from bloomery.engine.params import SamplingParams
from bloomery.engine.plain_sampling import PlainSampler, keep, supported

FILTERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 1e-40},
    {"temperature": 1.9, "top_k": 5},
    {"top_k": 1},
    {"top_p": 0.9},
    {"top_p": 1e-9},
    {"min_p": 0.05},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.02},
]


def rows(size: int, count: int = 20) -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((count, size)).astype(np.float32) * 3
    drawn[0] = np.round(drawn[0])  # equal ones
    return drawn


@pytest.mark.parametrize("size", [1, 7, 300, 20_000])
@pytest.mark.parametrize("filters", FILTERS)
def test_the_same_tokens_are_kept(size: int, filters: dict[str, Any]):
    params = SamplingParams(**filters)
    for row in rows(size):
        ids, scores = keep(row, params)
        theirs = sampling.keep(torch.from_numpy(row), params)
        assert ids.tolist() == theirs.ids.tolist()
        # The last bit of a division by a number that float32 does not hold.
        np.testing.assert_allclose(scores, theirs.scores.numpy(), rtol=1e-6)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("seed", [0, 3, 2**32 + 5, 2**63 - 1, -7])
def test_a_seed_draws_the_same_tokens(filters: dict[str, Any], seed: int):
    params = SamplingParams(seed=seed, **filters)
    ours, theirs = PlainSampler(params), sampling.Sampler(params)
    assert ours.seed == theirs.seed
    for row in rows(300):
        assert ours.choose(row, int(row.argmax())) == theirs.choose(torch.from_numpy(row))


def test_greedy_takes_the_first_of_the_largest():
    sampler, row = PlainSampler(SamplingParams(temperature=0.0)), np.array([1, 5, 5, 2], dtype=np.float32)
    assert sampler.choose(row, 1) == 1
    assert sampler.choose(row[:2], 9) == 1  # the largest of all was no token


def test_draws_follow_the_probabilities():
    """Of 20,000 draws a share of 0.1 is off by 0.0021 (one standard deviation): five of them."""
    row = np.log(np.array([0.1, 0.2, 0.7], dtype=np.float32))
    sampler = PlainSampler(SamplingParams(seed=1))
    counts = Counter(sampler.choose(row, 2) for _ in range(20_000))
    for token, share in enumerate((0.1, 0.2, 0.7)):
        assert abs(counts[token] / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_without_a_seed_two_differ():
    assert PlainSampler(SamplingParams()).seed != PlainSampler(SamplingParams()).seed


@pytest.mark.parametrize(
    "more",
    [
        {"typical_p": 0.9},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"logit_bias": {1: 2.0}},
        {"logprobs": 0},
        {"prompt_logprobs": 1},
        {"trace": 1},
        {"constraint": {"regex": "a"}},
    ],
)
def test_other_requests_are_not_for_it(more: dict[str, Any]):
    assert not supported(SamplingParams(**more))


def test_usual_requests_are():
    assert supported(SamplingParams(temperature=0.3, top_k=3, top_p=0.5, min_p=0.1, seed=3, stop=["x"]))
