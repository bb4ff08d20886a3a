"""What a plan says of a corpus, a size and a vocabulary."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.core.quantity import Quantity
from bloomery.training.planning.advice import (
    corpus_advice,
    millions,
    pace_advice,
    size_advice,
    time_advice,
    vocabulary_advice,
)
from bloomery.training.planning.law import DEFAULT_LAW
from bloomery.training.planning.plan import Alternative
from bloomery.training.planning.shapes import matrix_parameters, shaped, suggested_vocabulary
from bloomery.training.speed import StepTime

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]


def expected(value: float) -> Quantity:
    return Quantity.exact(value, "estimated")


def other(value: float, name: str = "best") -> Alternative:
    return Alternative(
        name=name,
        num_hidden_layers=3,
        hidden_size=192,
        parameters=1,
        steps=1,
        seconds=1.0,
        predicted_bits_per_byte=expected(value),
    )


def test_the_vocabulary_of_the_rule():
    # Tao et al. 2024 print about 9,000 for 85M parameters of 768 wide (GPT-2 small's).
    small = shaped(BASE, 13, 768)
    assert matrix_parameters(small) == pytest.approx(85e6, rel=0.05)
    assert suggested_vocabulary(small) == pytest.approx(9000, rel=0.1)
    assert "9,0" in vocabulary_advice(replace(small, vocab_size=50_000)) or "8," in vocabulary_advice(
        replace(small, vocab_size=50_000)
    )
    assert vocabulary_advice(replace(small, vocab_size=8_192)) == ""


def test_waste_is_said_with_both_numbers():
    text, supported = corpus_advice(DEFAULT_LAW, 1e4, 20.0, [400_000, 3_000_000, 100_000_000])
    assert supported < 100_000_000 and "100M would be wasted" in text and "20 passes" in text
    text, supported = corpus_advice(DEFAULT_LAW, 1e13, 0.5, [400_000, 3_000_000])
    assert (text, supported) == ("", 3_000_000)


def test_a_bad_size_is_named():
    assert "against 1.50 with 3 x 192" in size_advice(BASE, expected(2.0), [other(1.5)], fixed=True)
    assert size_advice(BASE, expected(1.5), [other(1.5)], fixed=True) == ""
    assert "half 3 x 192 1.600" in size_advice(BASE, expected(1.5), [other(1.6, "half")], fixed=False)
    assert size_advice(BASE, expected(1.5), [], fixed=False) == ""


def test_a_target_is_compared_by_time():
    assert time_advice(BASE, 60.0, [other(1.5, "half")]).endswith("in 60 s; half 3 x 192 1 s")
    assert time_advice(BASE, 60.0, []) == ""


@pytest.mark.parametrize(("low", "high", "said"), [(0.95, 1.1, ""), (0.9, 1.5, "differ by 60%")])
def test_a_busy_machine_is_said(low: float, high: float, said: str):
    timing = StepTime(
        seconds=1.0,
        low=low,
        high=high,
        rows=1,
        context_length=8,
        precision="float32",
        compiled=False,
        compile_seconds=0.0,
        parameters=1,
    )
    assert said in pace_advice(timing) and bool(said) == bool(pace_advice(timing))


def test_counts_in_words():
    assert [millions(n) for n in (350_000, 1_234_000, 100e6)] == ["350k", "1.23M", "100M"]
