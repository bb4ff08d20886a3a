"""Chances of answers out of the tokens that a model tells, against the distribution that they were taken from."""

from __future__ import annotations

import json
import math
import random

import pytest

from bloomery.core.messages import AnswerToken, TokenChance
from bloomery.corpus.annotation.chances import chances

CHOICES = ("ham", "spam", "hard to say")


class Characters:
    """A made-up model that writes one character after the other; `told` of the most probable ones at each place."""

    def __init__(self, seed: int, spelt: dict[str, str], told: int = 20) -> None:
        self.rng, self.spelt, self.told = random.Random(seed), spelt, told
        self.seen: dict[str, dict[str, float]] = {}

    def following(self, before: str) -> dict[str, float]:
        if before not in self.seen:
            letters = {one[len(before)] for one in self.spelt.values() if one.startswith(before) and one != before}
            weights = {letter: self.rng.random() for letter in sorted(letters | set("xyz"))}
            total = sum(weights.values())
            self.seen[before] = {letter: weight / total for letter, weight in weights.items()}
        return self.seen[before]

    def tokens(self, text: str) -> list[AnswerToken]:
        found = []
        for place, letter in enumerate(text):
            following = self.following(text[:place])
            top = sorted(following.items(), key=lambda item: -item[1])[: self.told]
            chances = tuple(TokenChance(one.encode(), math.log(share)) for one, share in top)
            found.append(AnswerToken(letter.encode(), math.log(following[letter]), chances))
        return found

    def mass(self, choice: str) -> float:
        """Of the beginning of the choice after which no other is left."""
        text, product = self.spelt[choice], 1.0
        for place in range(len(text)):
            product *= self.following(text[:place])[text[place]]
            if sum(one.startswith(text[: place + 1]) for one in self.spelt.values()) == 1:
                break
        return product


@pytest.mark.parametrize("form", ["bare", "json", "spaced json"])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_is_the_models_distribution_over_the_choices(form: str, seed: int):
    write = {
        "bare": str,
        "json": lambda one: json.dumps({"answer": one}),
        "spaced json": lambda one: '{ "answer" : ' + json.dumps(one) + "}",
    }[form]
    spelt = {one: write(one) for one in CHOICES}
    model = Characters(seed, spelt)
    for chosen in CHOICES:
        # "ham" and "hard to say" part at the third letter, and only the path that was taken is told: of what parts from
        # it earlier, all is in one token.
        found = chances(model.tokens(spelt[chosen]), chosen, CHOICES)
        assert found is not None
        total = sum(found.by_choice.values())
        assert total == pytest.approx(1)
        if chosen in ("ham", "hard to say"):
            masses = {one: model.mass(one) for one in CHOICES}
            wanted = {one: mass / sum(masses.values()) for one, mass in masses.items()}
            assert found.by_choice == pytest.approx(wanted, rel=1e-9)
            assert 0 < found.coverage < 1


def test_one_token_a_choice():
    top = (TokenChance(b"ham", math.log(0.5)), TokenChance(b"spam", math.log(0.3)), TokenChance(b"I", math.log(0.2)))
    found = chances([AnswerToken(b"ham", math.log(0.5), top)], "ham", ("ham", "spam"))
    assert found is not None and found.by_choice == pytest.approx({"ham": 0.625, "spam": 0.375})
    assert found.coverage == pytest.approx(0.8)


def test_a_token_that_several_begin_with_is_shared():
    top = (TokenChance(b"A", math.log(0.5)), TokenChance(b"B", math.log(0.4)), TokenChance(b"Ax", math.log(0.05)))
    found = chances([AnswerToken(b"B", math.log(0.4), top)], "B", ("Ax", "Ay", "B"))
    assert found is not None and found.shared == pytest.approx(0.5 / 0.95)
    assert found.by_choice == pytest.approx({"Ax": 0.3 / 0.95, "Ay": 0.25 / 0.95, "B": 0.4 / 0.95})


def test_a_token_may_reach_beyond_the_answer():
    first = AnswerToken(b'{"answer": "', 0.0)
    ends = (TokenChance(b'a"}', math.log(0.25)), TokenChance(b'b"}', math.log(0.75)))
    found = chances([first, AnswerToken(b'a"}', math.log(0.25), ends)], "a", ("a", "b"))
    assert found is not None and found.by_choice == pytest.approx({"a": 0.25, "b": 0.75})


def test_where_the_tokens_do_not_say_nothing_is_said():
    token = AnswerToken(b"neg", -0.1, (TokenChance(b"neg", -0.1),))
    assert chances([token], "neg", ("neg", "negative")) is None
    longer = AnswerToken(b"negative", -0.1, (TokenChance(b"negative", -0.1), TokenChance(b"neg", -2.5)))
    found = chances([longer], "negative", ("neg", "negative"))
    both = math.exp(-2.5)  # what follows "neg" is not told: half is each one's
    assert found is not None and found.shared == pytest.approx(both / (math.exp(-0.1) + both))
    assert found.by_choice["negative"] == pytest.approx((math.exp(-0.1) + both / 2) / (math.exp(-0.1) + both))
