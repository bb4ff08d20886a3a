"""The vocabulary of a budget is the published rule's for the size that the budget buys."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.training.planning import vocabulary
from bloomery.training.planning.plan import Budget, PlanRequest
from bloomery.training.planning.shapes import matrix_parameters, shaped
from bloomery.training.planning.vocabulary import choose_vocabulary, rounded_vocabulary

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
REQUEST = PlanRequest(tokens=0, text_bytes=0, vocab_size=4096, budget=Budget(steps=10), base=BASE)


def test_the_rule_of_a_model():
    large = shaped(BASE, 12, 768)
    rule = 3_145_728 * (matrix_parameters(large) / 33e6) ** 0.8354 / 768
    assert rounded_vocabulary(large) == pytest.approx(rule, rel=0.02) and rounded_vocabulary(large) % 64 == 0
    assert rounded_vocabulary(shaped(BASE, 1, 64)) == 512


def test_a_fixed_size_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(vocabulary, "plan")
    chosen, why = choose_vocabulary(replace(REQUEST, fixed_size=True), 10**6)
    assert chosen == rounded_vocabulary(BASE) and f"{chosen:,}" in why


def test_a_larger_budget_takes_a_larger_vocabulary(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def planned(request, **_):
        asked.append(request)
        shape = shaped(BASE, 8, 512) if request.budget.steps > 100 else shaped(BASE, 2, 128)
        return type("Planned", (), {"model": shape})

    monkeypatch.setattr(vocabulary, "plan", planned)
    few, many = (choose_vocabulary(replace(REQUEST, budget=Budget(steps=n)), 7_000_000)[0] for n in (10, 1000))
    assert few < many and asked[0].text_bytes == 7_000_000 and asked[0].tokens == 2_000_000
