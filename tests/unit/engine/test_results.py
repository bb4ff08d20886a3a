"""Results: derived numbers say None when there is nothing to divide, and energy adds up."""

from __future__ import annotations

from bloomery.core.quantity import Quantity
from bloomery.engine.results import GenerationResult, Timings


def test_rates_need_at_least_one_step():
    assert Timings(new_tokens=1, decode_seconds=0.0).tokens_per_second is None
    assert Timings(new_tokens=5, decode_seconds=2.0).tokens_per_second == 2.0
    assert Timings(prompt_tokens=6, prefill_seconds=2.0).prefill_tokens_per_second == 3.0
    assert Timings().prefill_tokens_per_second is None


def test_energy_is_the_sum_of_the_phases_and_unknown_poisons_it():
    def result(decode: Quantity) -> GenerationResult:
        return GenerationResult(
            text="x",
            token_ids=[1, 2],
            logprobs=[-1.0, -2.0],
            finish_reason="stop",
            prompt_token_ids=[5],
            seed=0,
            timings=Timings(),
            prefill_energy=Quantity.exact(1.0, "counter"),
            decode_energy=decode,
        )

    assert result(Quantity.exact(2.0, "counter")).energy.central == 3.0
    assert not result(Quantity.unknown()).energy.known
    assert (result(Quantity.unknown()).prompt_tokens, result(Quantity.unknown()).completion_tokens) == (1, 2)
