"""Choice: how people and models say which answer they take, and when it cannot be told."""

from __future__ import annotations

import pytest

from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Choice, find_choice

CITIES = ("Paris", "Berlin", "New York", "York")
NUMBERS = ("12", "21", "2", "1")


@pytest.mark.parametrize(
    "text, choice",
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B.", 1),
        ("**B**", 1),
        ("B) Berlin", 1),
        ("B: Berlin", 1),
        ("B. Berlin", 1),
        ("Berlin", 1),
        ("berlin.", 1),
        ("The answer is B.", 1),
        ("The answer is (B).", 1),
        ("The correct answer is **B) Berlin**.", 1),
        ("Answer: B", 1),
        ("**Answer:** B", 1),
        ("Die Antwort ist B.", 1),
        ("The answer is Berlin, because Paris is in France.", 1),
        ("I first thought of option A, but the correct option is B", 1),
        ("Let us think. A is wrong. C is wrong.\n\nAnswer: D", 3),
        ("\\boxed{C}", 2),
        ("so \\boxed{\\text{New York}}", 2),
        ("It must be New York", 2),
        ("York it is", 3),
        ("Paris and Berlin are capitals.\nSo: Berlin", 1),
        ("B\n\nBerlin is the capital of Germany, not of France (A).", 1),
        ("C - it lies at the Hudson", 2),
        ("I would go for (D).", 3),
        ("The answer is a city that I do not know", None),
        ("The answer is a city", None),
        ("Answer: A city at the Seine", None),
        ("Answer: a", 0),
        ("Answer: A", 0),
        ("The answer is A because it is in France", 0),
        ("The answer is B which lies in Germany", 1),
        ("The answer is a.", 0),
        ("My answer: I do not know", None),
        ("The answer depends on what a capital is", None),
        ("A city in Europe", None),
        ("I do not know", None),
        ("Paris or Berlin", None),
        ("(A) or (B)", None),
        ("E", None),
        ("", None),
    ],
)
def test_what_is_taken(text: str, choice: int | None):
    assert find_choice(text or " ", CITIES) == choice


def test_numbers():
    assert find_choice("The answer is 21", NUMBERS) == 1
    assert find_choice("12", NUMBERS) == 0
    assert find_choice("2", NUMBERS, numbers=True) == 2
    assert find_choice("2", CITIES, numbers=True) == 1 and find_choice("2", CITIES) is None
    assert find_choice("The answer is 3.", CITIES, numbers=True) == 2


def test_yes_and_no():
    assert find_choice("No, it is not.", ("yes", "no")) == 1
    assert find_choice("Yes", ("yes", "no")) == 0
    assert find_choice("spam", ("ham", "spam")) == 1


def test_score():
    sample = Sample(id="s", input="?", choices=CITIES, targets=("Berlin",))
    assert Choice().score(sample, Answered(sample_id="s", text="I say B")).value == 0  # a lone letter within a sentence
    found = Choice().score(sample, Answered(sample_id="s", text="(B)"))
    assert found.value == 1 and found.answer == "Berlin"
    assert "none" in Choice().score(sample, Answered(sample_id="s", text="Rome")).why
