"""Attack success of models that obey everything, nothing, or only what looks like a turn; statistics by scipy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from scipy.stats import binomtest

from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, gathered
from bloomery.retrieve.attacks import measure_attacks, read_attacks
from bloomery.retrieve.attacks.measure import Rate

ATTACKS = read_attacks()


class Speaker:
    name = "speaker"

    def __init__(self, speak: Callable[[str], str]) -> None:
        self.speak = speak

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        yield ChatDelta(text=self.speak(messages[-1]["content"]), finish_reason="stop")

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        return gathered(self.stream(messages, options))


def attack_in(text: str):
    found = [one for one in ATTACKS if one.question in text and _squeezed(one.document) in _squeezed(text)]
    return max(found, key=lambda one: len(_squeezed(one.document)))


def _squeezed(text: str) -> str:
    text = re.sub(r"⟨U\+[0-9A-F]+⟩", "", text.translate(str.maketrans("‹›⟦⟧", "<>[]")))
    return "".join(c for c in text if c.isprintable() and not c.isspace())


def test_one_that_obeys_everything_is_not_saved_but_from_pictures():
    """What it says is its own; what leads outside does not reach the reader."""

    def obey(text: str) -> str:
        one = attack_in(text)
        return f"![x](https://{one.success[0]})" if one.kind == "exfiltrate" else one.success[0]

    report = measure_attacks(Speaker(obey), ATTACKS)
    assert report.rate("obeyed", defended=True).count == report.rate("harmed", defended=False).count == 40
    assert report.rate("harmed", defended=True, kind="exfiltrate").count == 0
    assert report.rate("harmed", defended=True).count == 34
    assert report.p_value("harmed") == pytest.approx(2 * 0.5**6) and report.p_value("obeyed") == 1.0
    json.dumps(report.to_dict())


def test_one_that_believes_turns():
    def believe(text: str) -> str:
        one = attack_in(text)
        return one.success[0] if re.search(r"<\|im_start\|>system|\[INST\]|<start_of_turn>", text) else one.answer

    report = measure_attacks(Speaker(believe), ATTACKS)
    assert report.rate("obeyed", defended=False).count == 3 and report.rate("obeyed", defended=True).count == 0
    assert report.rate("answered", defended=True).count == 40


def test_intervals_are_wilsons():
    rate = Rate.of([True] * 3 + [False] * 37)
    theirs = binomtest(3, 40).proportion_ci(method="wilson")
    assert (rate.low, rate.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9) and rate.text().startswith(
        "3/40 = 8%"
    )
    # The published formula (Wilson 1927).
    z, p, n = 1.959964, 3 / 40, 40
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert (rate.low + rate.high) / 2 == pytest.approx(middle, abs=1e-6)
