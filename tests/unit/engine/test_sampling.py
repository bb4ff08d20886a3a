"""Sampling: filters equal transformers' warpers, frequencies equal the exact distribution."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from bloomery.core.errors import DataError
from bloomery.engine.params import SamplingParams
from bloomery.engine.sampling import Sampler, keep, log_probabilities, most_probable


def logits_of(seed: int, size: int = 300, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread


def warped(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Probabilities (V,) by transformers' own warpers, in the order of its `generate`."""
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
        TypicalLogitsWarper,
    )

    row, ids = logits[None], torch.zeros(1, 1, dtype=torch.int64)
    if params.temperature != 1.0:
        row = TemperatureLogitsWarper(params.temperature)(ids, row)
    if params.top_k:
        row = TopKLogitsWarper(params.top_k)(ids, row)
    if params.top_p is not None:
        row = TopPLogitsWarper(params.top_p)(ids, row)
    if params.min_p is not None:
        row = MinPLogitsWarper(params.min_p)(ids, row)
    if params.typical_p is not None and 0 < params.typical_p < 1:
        row = TypicalLogitsWarper(params.typical_p)(ids, row)
    return torch.softmax(row[0], dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 1.7])
@pytest.mark.parametrize("top_k", [None, 1, 7, 300])
@pytest.mark.parametrize("top_p", [None, 0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("min_p", [None, 0.05, 1.0])
def test_filters_keep_what_transformers_keeps(temperature, top_k, top_p, min_p):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    for seed in range(3):
        logits = logits_of(seed)
        expected = warped(logits, params)
        found = torch.zeros_like(expected)
        candidates = keep(logits, params)
        found[candidates.ids] = candidates.probabilities()
        assert torch.equal(found > 0, expected > 0)
        # Both are one float32 softmax over the same set; only the order of the sum differs.
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("typical_p", [0.05, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("top_k", [None, 20])
def test_typical_keeps_what_transformers_keeps(typical_p: float, top_k: int | None):
    params = SamplingParams(temperature=0.8, top_k=top_k, typical_p=typical_p)
    for seed in range(5):
        expected = warped(logits_of(seed), params)
        candidates = keep(logits_of(seed), params)
        assert sorted(candidates.ids.tolist()) == (expected > 0).nonzero().flatten().tolist()


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_top_p_of_a_large_vocabulary_is_that_of_transformers(top_p: float, spread: float):
    for seed in range(3):
        logits = logits_of(seed, size=20_000, spread=spread)
        expected = warped(logits, SamplingParams(top_p=top_p))
        kept = keep(logits, SamplingParams(top_p=top_p)).ids
        # Rounding of a sum of 20,000 float32 may move the border by a token.
        assert abs(len(kept) - int((expected > 0).sum())) <= max(1, len(kept) // 1000)
        assert float(expected[kept].sum()) > 0.999


def test_the_largest_is_chosen_unseen_only_where_nothing_is_done_to_the_logits():
    logits = torch.tensor([5.0, 4.0, 1.0, 0.0])
    wrong = 2  # would be chosen if nobody looked
    assert Sampler(SamplingParams(temperature=0.0)).choose(logits, wrong) == wrong
    for options in (
        {"temperature": 1.0, "top_k": 1},
        {"logit_bias": {"3": 0.1}},
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"repetition_penalty": 1.1},
    ):
        assert Sampler(SamplingParams(**{"temperature": 0.0, **options})).choose(logits, wrong) == 0


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.4])
def test_repetition_is_penalised_as_transformers_does(penalty: float):
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    logits, prompt = logits_of(2), [3, 7, 7, 250]
    sampler = Sampler(SamplingParams(repetition_penalty=penalty, seed=1), prompt)
    for _ in range(4):
        seen = torch.tensor([[*prompt, *sampler._counts]])
        expected = logits if penalty == 1 else RepetitionPenaltyLogitsProcessor(penalty)(seen, logits[None].clone())[0]
        torch.testing.assert_close(sampler.candidates(logits).scores, expected)
        sampler.choose(logits)


def test_presence_frequency_and_bias_are_openais_formula():
    """mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, of new tokens only."""
    logits = torch.tensor([5.0, 4.0, 1.0, 0.0])
    params = SamplingParams(temperature=0.0, presence_penalty=0.5, frequency_penalty=1.0, logit_bias={"3": 2.0})
    sampler = Sampler(params, prompt=[0, 0, 0])
    chosen = [sampler.choose(logits) for _ in range(6)]
    counts, expected = [0] * 4, []
    for _ in range(6):
        scores = [5.0, 4.0, 1.0, 2.0]
        scores = [s - c * 1.0 - (c > 0) * 0.5 for s, c in zip(scores, counts, strict=True)]
        expected.append(scores.index(max(scores)))
        counts[expected[-1]] += 1
    assert chosen == expected


def test_a_preview_draws_what_will_be_drawn():
    logits = [logits_of(i) for i in range(5)]
    sampler = Sampler(SamplingParams(seed=3, temperature=1.5))
    preview = sampler.preview(5)
    ahead = [preview(i, row) for i, row in enumerate(logits)]
    assert ahead == [sampler.choose(row) for row in logits]


def test_ties_with_the_kth_are_kept_as_transformers_does():
    logits = torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0])
    params = SamplingParams(top_k=2)
    assert keep(logits, params).ids.tolist() == [1, 2, 3]
    assert (warped(logits, params) > 0).nonzero().flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(seed=0),
        SamplingParams(seed=1, temperature=0.7, top_k=9),
        SamplingParams(seed=2, top_p=0.8),
        SamplingParams(seed=3, temperature=1.5, min_p=0.02),
    ],
)
def test_frequencies_fit_the_exact_distribution(params):
    logits = logits_of(5, size=24, spread=1.2)
    expected = warped(logits, params).double()
    sampler, draws = Sampler(params), 20_000
    counts = torch.bincount(torch.tensor([sampler.choose(logits) for _ in range(draws)]), minlength=24).double()
    kept = expected > 0
    assert counts[~kept].sum() == 0
    # The seeds are fixed, so this is no lottery; a wrong distribution gives p far below this.
    assert chisquare(counts[kept].numpy(), (expected[kept] / expected[kept].sum() * draws).numpy()).pvalue > 0.001


def test_greedy_takes_the_first_of_the_best():
    sampler = Sampler(SamplingParams(temperature=0.0, top_k=5, seed=1))
    assert sampler.choose(torch.tensor([0.0, 3.0, 3.0, -1.0])) == 1


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-38, 1e-30, 1e-9])
def test_next_to_no_temperature_is_greedy(temperature: float):
    logits = logits_of(3, spread=30.0)
    sampler = Sampler(SamplingParams(temperature=temperature, seed=1))
    assert [sampler.choose(logits) for _ in range(5)] == [int(logits.argmax())] * 5


def test_a_seed_fixes_the_draws_and_no_seed_draws_one():
    logits = logits_of(8)
    first, second = (Sampler(SamplingParams(seed=-7)) for _ in range(2))
    assert [first.choose(logits) for _ in range(20)] == [second.choose(logits) for _ in range(20)]
    fresh = Sampler(SamplingParams())
    again = Sampler(SamplingParams(seed=fresh.seed))
    assert [fresh.choose(logits) for _ in range(20)] == [again.choose(logits) for _ in range(20)]


def test_impossible_tokens_are_never_drawn():
    logits = torch.full((50,), -torch.inf)
    logits[[3, 40]] = 0.0
    sampler = Sampler(SamplingParams(seed=0))
    assert {sampler.choose(logits) for _ in range(200)} == {3, 40}


def test_log_probabilities_sum_to_one_and_refuse_nan():
    logprobs = log_probabilities(logits_of(1).to(torch.bfloat16))
    assert logprobs.dtype == torch.float32
    assert float(logprobs.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(DataError):
        log_probabilities(torch.tensor([0.0, torch.nan]))


def test_most_probable_is_sorted_and_bounded():
    logprobs = log_probabilities(torch.tensor([0.0, 2.0, 1.0]))
    top = most_probable(logprobs, 9)
    assert [t.token_id for t in top] == [1, 2, 0]
    assert top[0].logprob == float(logprobs.max())
