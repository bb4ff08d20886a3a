"""The law against the papers it follows."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from bloomery.core.errors import DataError
from bloomery.training.planning.law import DEFAULT_LAW, ScalingLaw, discounted, effective_data

# Besiroglu et al. 2024 (arXiv 2404.10102), N in parameters and D in tokens.
CHINCHILLA = ScalingLaw(E=1.8172, A=482.01, alpha=0.3473, B=2085.43, beta=0.3672)
# Muennighoff et al. 2023 (arXiv 2305.16264), appendix A: equal exponents, N and D as there.
MUENNIGHOFF = ScalingLaw(E=1.87, A=521.0, alpha=0.3526, B=1488.0, beta=0.3526)


@pytest.mark.parametrize(("epochs", "times"), [(2, 1.97), (4, 3.73), (16, 10.6), (40, 15.2), (1e9, 16.4)])
def test_repeats_count_as_in_muennighoff(epochs: float, times: float):
    # The published equivalents in unique data, to their printed digits.
    assert effective_data(epochs * 1e6, 1e6) / 1e6 == pytest.approx(times, abs=0.06)


def test_less_than_one_pass_counts_in_full():
    assert effective_data(5e5, 1e6) == 5e5


def test_the_best_size_is_chinchillas():
    # They print 17.9 tokens a parameter at 5.76e23 operations, with constants of more digits than are printed.
    flops = 5.76e23
    low, high = 1e9, 1e12
    for _ in range(100):
        size = math.sqrt(low * high)
        low, high = (size, high) if CHINCHILLA.best_parameters(flops / (6 * size)) > size else (low, size)
    assert flops / (6 * size) / size == pytest.approx(17.9, rel=0.12)


def test_parameters_beyond_the_data_count_less():
    # Muennighoff's own G: N = (D G)^(beta / alpha) G, and at most 1 + R*_N times that many count.
    g = (MUENNIGHOFF.alpha * MUENNIGHOFF.A / (MUENNIGHOFF.beta * MUENNIGHOFF.B)) ** (
        1 / (MUENNIGHOFF.alpha + MUENNIGHOFF.beta)
    )
    unique = 1e8
    best = (unique * g) ** (MUENNIGHOFF.beta / MUENNIGHOFF.alpha) * g
    assert MUENNIGHOFF.best_parameters(unique) == pytest.approx(best)
    assert MUENNIGHOFF.effective_parameters(best / 2, unique) == best / 2
    assert MUENNIGHOFF.effective_parameters(best * 1e6, unique) == pytest.approx(best * 6.31)
    assert MUENNIGHOFF.effective_parameters(2 * best, unique) == pytest.approx(
        best * (1 + 5.31 * (1 - math.exp(-1 / 5.31)))
    )


def test_what_a_ladder_has_seen_counts_in_full():
    seen = ScalingLaw(E=1.0, A=50.0, alpha=0.4, B=1e4, beta=0.5, largest_parameters=1e7)
    assert seen.best_parameters(1e6) < 1e7
    assert seen.effective_parameters(1e7, 1e6) == 1e7
    assert seen.effective_parameters(1e8, 1e6) < 6e7


def test_more_of_either_is_better():
    little = DEFAULT_LAW.expected(1e6, 1e6, 1e8)
    assert DEFAULT_LAW.expected(2e6, 1e6, 1e8) < little
    assert DEFAULT_LAW.expected(1e6, 2e6, 1e8) < little


def test_a_target_is_met_by_the_data_that_it_asks_for():
    data = DEFAULT_LAW.data_for(2.0, 1e6, 1e7)
    assert data is not None
    assert DEFAULT_LAW.expected(1e6, data, 1e7) == pytest.approx(2.0, abs=1e-6)
    assert DEFAULT_LAW.data_for(0.5, 1e6, 1e7) is None


def test_a_small_corpus_supports_a_small_model():
    sizes = [1e5, 1e6, 1e7, 1e8]
    little, much = (DEFAULT_LAW.supported_parameters(unique, sizes) for unique in (1e4, 1e12))
    assert little < 1e8 == much


def test_the_interval_comes_from_the_samples_and_the_scatter():
    rest = (482.01, 0.3473, 2085.43, 0.3672)
    sampled = replace(CHINCHILLA, largest_parameters=1e10, samples=((1.7, *rest), (1.9, *rest)))
    predicted = sampled.predict(1e9, 1e10, 1e13)
    central = CHINCHILLA.loss(1e9, 1e10)
    assert predicted.central == pytest.approx(central)
    assert predicted.low == pytest.approx(central - 0.1172 + 0.01, abs=1e-3)
    assert predicted.high == pytest.approx(central + 0.0828 - 0.01, abs=1e-3)
    scattered = replace(CHINCHILLA, largest_parameters=1e10, spread_low=0.1, spread_high=0.2)
    scattered = scattered.predict(1e9, 1e10, 1e13)
    assert (scattered.low, scattered.high) == pytest.approx((0.9 * central, 1.2 * central))


def test_nobody_is_worse_than_knowing_nothing():
    predicted = DEFAULT_LAW.predict(1.0, 1.0, 1e6)
    assert predicted.central == 8.0 and predicted.high == 8.0


@pytest.mark.parametrize(("parameters", "seen", "unique"), [(0, 1e6, 1e6), (1e6, 0, 1e6), (1e6, 1e6, 0)])
def test_nothing_read_or_to_read_is_knowing_nothing(parameters: float, seen: float, unique: float):
    law = replace(DEFAULT_LAW, samples=(tuple(DEFAULT_LAW.constants.values()),))
    assert law.expected(parameters, seen, unique) == 8.0
    assert law.predict(parameters, seen, unique).high == 8.0
    assert law.data_for(2.0, 1e6, 0) is None and effective_data(5.0, 0.0) == 0.0


def test_discounting_begins_where_the_full_ends():
    assert discounted(10.0, 10.0, half=5.0) == 10.0
    assert discounted(10.0 + 1e-6, 10.0, half=5.0) == pytest.approx(10.0 + 1e-6)


def test_round_trip():
    law = ScalingLaw(**CHINCHILLA.constants, samples=((1.0, 2.0, 0.3, 4.0, 0.5),), calibrated=True)
    assert ScalingLaw.from_dict(json.loads(json.dumps(law.to_dict()))) == law


@pytest.mark.parametrize(
    "wrong",
    [{}, {"E": 1.0}, {**CHINCHILLA.constants, "alpha": -1.0}, {**CHINCHILLA.constants, "E": -1.0}, {"F": 2}, []],
)
def test_what_is_no_law(wrong: dict):
    with pytest.raises(DataError):
        ScalingLaw.from_dict(wrong)


def test_beyond_what_was_seen_the_interval_widens():
    law = replace(CHINCHILLA, largest_parameters=1e9, largest_data=1e10, spread_low=0.01, spread_high=0.01)
    near, far, large = (law.predict(*of, 1e15) for of in ((1e9, 1e10), (1e9, 1e12), (1e10, 1e10)))
    widths = [q.high / q.low for q in (near, far, large) if q.high and q.low]
    # Two percent on each side for each factor of e: log(100) = 4.6 of them, and log(10) = 2.3.
    assert widths == pytest.approx([1.01 / 0.99, 1.102 / 0.898, 1.056 / 0.944], rel=2e-3)


def test_other_settings_and_batches_make_it_wider():
    law = ScalingLaw(E=0.5, A=200.0, alpha=0.4, B=60.0, beta=0.3, spread_low=0.1, batch_tokens=4096.0)
    assert (law.wider().spread_low, law.wider().spread_high) == pytest.approx((0.15, 0.05))
    assert law.for_batch(4096) is law and law.for_batch(8192) == law.wider()
    assert DEFAULT_LAW.for_batch(8192) is DEFAULT_LAW  # of several
