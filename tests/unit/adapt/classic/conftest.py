"""Small labelled texts in which words tell labels, and rows of numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bloomery.evaluate.sample import Sample

_WORDS = {
    "good": ["fine", "lovely", "bright", "warm"],
    "bad": ["dull", "grim", "bleak", "cold"],
    "odd": ["weird", "strange", "queer", "eerie"],
}
_PLAIN = ["the", "film", "was", "a", "story", "of", "people", "and", "music", "light"]


def _texts(count: int, labels: int = 2, seed: int = 0) -> list[Sample]:
    rng = random.Random(seed)
    names = tuple(_WORDS)[:labels]
    made = []
    for number in range(count):
        label = names[number % labels]
        words = rng.choices(_PLAIN, k=6) + rng.choices(_WORDS[label], k=2) + rng.choices(_WORDS[rng.choice(names)], k=1)
        rng.shuffle(words)
        made.append(Sample(id=str(number), input=" ".join(words), targets=(label,), choices=names))
    return made


@pytest.fixture
def texts() -> Callable[..., list[Sample]]:
    return _texts
