"""DriftWatch: its statistics are SciPy's; real changes are found, the same distribution raises nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bloomery.engine import GenerationResult, Timings
from bloomery.server.drift import (
    DriftWatch,
    compare,
    deciles,
    histogram,
    is_refusal,
    ks,
    ks_critical,
    psi,
    script_of,
    two_proportions,
)
from bloomery.server.record import Record


@pytest.mark.parametrize("seed", range(5))
def test_ks_is_scipys(seed: int):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 30, 80).tolist(), rng.integers(0, 40, 130).tolist()  # with ties
    assert ks(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-12)


def test_the_critical_value_is_the_asymptotic_distributions():
    for n, m in ((100, 100), (300, 700)):
        assert stats.kstwobign.sf(ks_critical(n, m) * np.sqrt(n * m / (n + m))) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(("a", "n", "b", "m"), [(3, 100, 20, 150), (50, 100, 40, 80), (1, 1000, 9, 1000)])
def test_two_proportions_is_the_chi_square_of_the_table(a: int, n: int, b: int, m: int):
    table = [[a, n - a], [b, m - b]]
    assert two_proportions(a, n, b, m) ** 2 == pytest.approx(stats.chi2_contingency(table, correction=False).statistic)
    assert two_proportions(0, 5, 0, 5) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_psi_is_the_sum_of_both_relative_entropies(seed: int):
    rng = np.random.default_rng(seed)
    p, q = rng.integers(1, 50, 10), rng.integers(1, 50, 10)
    expected = stats.entropy(p, q) + stats.entropy(q, p)  # scipy brings both to a sum of one
    assert psi(p.tolist(), q.tolist()) == pytest.approx(expected, rel=1e-9)
    assert psi([1, 0], [0, 1]) == pytest.approx(2 * 0.9999 * np.log(1e4), rel=1e-6)


def test_deciles_part_evenly_and_numpy_counts_the_same():
    values = np.random.default_rng(0).normal(size=1000).tolist()
    edges = deciles(values)
    counts = histogram(values, edges)
    assert counts == np.histogram(values, [-np.inf, *edges, np.inf])[0].tolist() and set(counts) == {100}
    assert deciles([5] * 30) == [5]


def test_scripts_and_refusals():
    texts = {"Once": "latin", "Жил был": "cyrillic", "从前有一座": "cjk", "昔々あるところ": "hiragana", "123 !": "none"}
    assert {text: script_of(text) for text in texts} == texts
    assert all(map(is_refusal, ["I'm sorry, but no.", " I cannot help", "I can’t do that", "As an AI model"]))
    assert not any(map(is_refusal, ["I canned peaches", "The king was sorry", "", "I can"]))


def test_the_same_distribution_raises_no_alert():
    rng = random.Random(0)

    def drawn(kind: str) -> list:
        if kind == "length":
            return [int(rng.lognormvariate(4, 1)) for _ in range(200)]
        return [rng.choice(["latin", "latin", "latin", "cjk"]) for _ in range(200)]

    lengths = [compare("prompt_length", drawn("length"), drawn("length")).alert for _ in range(200)]
    scripts = [compare("prompt_script", drawn("script"), drawn("script")).alert for _ in range(200)]
    # One in a thousand each: more than two of 400 would happen once in more than a hundred seeds.
    assert sum(lengths) + sum(scripts) <= 2


def record(prompt: str, answer: str, tokens: int, status: int = 200) -> Record:
    result = GenerationResult(
        text=answer, token_ids=[1] * tokens, logprobs=[0.0] * tokens, finish_reason="stop", prompt_token_ids=[1],
        seed=0, timings=Timings(),
    )  # fmt: skip
    return Record(
        id="x", route="/", model="m", tenant="t", status=status, time=0.0, seconds=1.0, prompt_ids=[[1] * tokens],
        answers=[result], completion_tokens=tokens, decode=lambda ids, special: prompt,
    )  # fmt: skip


CHANGES: dict[str, Callable[[int], Record]] = {
    "prompt_length answer_length": lambda n: record("Once", "upon", 100 + n % 10),
    "prompt_script": lambda n: record("Жил был", "upon", 10 + n % 10),
    "answer_script": lambda n: record("Once", "从前", 10 + n % 10),
    "refusal": lambda n: record("Once", "I'm sorry, I cannot." if n % 2 else "upon", 10 + n % 10),
    "": lambda n: record("Once", "upon", 10 + n % 10),
}


@pytest.mark.parametrize("kinds", CHANGES)
def test_a_change_is_an_alert_of_its_kind_and_a_line_and_ends(kinds: str, caplog):
    watch = DriftWatch(40)
    for n in range(80):
        watch.add(record("Once", "upon", 10 + n % 10))
    assert [kind for _, kind, drift in watch.now() if drift.alert] == []
    assert len(watch.now()) == 5 and all(drift.distance for _, _, drift in watch.now())
    for n in range(40):
        watch.add(CHANGES[kinds](n))
        watch.add(record("", "", 1, status=499))  # says nothing
    assert sorted(kind for _, kind, drift in watch.now() if drift.alert) == sorted(kinds.split())
    assert all(f"drift of {kind} of m" in caplog.text for kind in kinds.split())
    for n in range(40):
        watch.add(record("Once", "upon", 10 + n % 10))
    assert not any(drift.alert for _, _, drift in watch.now())


def test_a_reference_of_one_length_knows_what_is_longer():
    assert compare("prompt_length", [5] * 100, [9] * 100).alert and compare("prompt_length", [5] * 100, [3] * 100).alert
    assert not compare("prompt_length", [5] * 100, [5] * 100).alert
