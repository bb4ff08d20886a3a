"""Kept answers: what was asked is not asked again, by whichever thread or process, and a kill loses none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.core.answer_cache import AnswerCache, CachedChat, CachedLikelihoods, chat_key
from bloomery.core.errors import ConfigError
from bloomery.core.likelihood import Likelihood, Pair
from bloomery.core.messages import AnswerToken, ChatAnswer, ChatDelta, ChatOptions, Message, TokenChance, Usage
from bloomery.core.quantity import Quantity

GREEDY = ChatOptions(temperature=0.0)
ASKED = [{"role": "user", "content": "Why? \ud83d\ude00"}]
TOLD = Usage(
    prompt_tokens=3, completion_tokens=2, energy_joules=Quantity(low=1.0, central=2.0, high=3.0, method="sampled")
)
TOKEN = AnswerToken(b"\xff\x00", -0.25, (TokenChance(b"\xff\x00", -0.25), TokenChance("é".encode(), -2.0)))


class Counting:
    def __init__(self, name: str = "model") -> None:
        self.name, self.asked = name, 0

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        self.asked += 1
        return ChatAnswer(
            text=f"answer {self.asked}", finish_reason="stop", usage=TOLD, seconds=1.5, tokens=(TOKEN,), seed=7
        )

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        self.asked += 1
        yield ChatDelta(text="an", tokens=(TOKEN,))
        yield ChatDelta(text="swer", finish_reason="length", usage=TOLD)

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        for place in reversed(range(len(pairs))):
            self.asked += 1
            nats = float("nan") if pairs[place].context == "broken" else -1.0 * self.asked
            yield place, Likelihood(nats=nats, tokens=1, greedy=True, usage=TOLD, seconds=0.5)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        yield from self.likelihoods([Pair("", text) for text in texts])


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[AnswerCache]:
    with_file = AnswerCache(tmp_path / "answers.sqlite")
    yield with_file
    with_file.close()


def test_what_was_answered_is_not_asked_again(cache: AnswerCache):
    model = Counting()
    first = CachedChat(model, cache).answer(ASKED, GREEDY)
    again = CachedChat(Counting(), cache).answer(ASKED, GREEDY)  # of the same name
    assert not first.cached and again == replace(first, cached=True)  # text, tokens, usage, seconds, seed
    assert CachedChat(model, cache).answer(ASKED, replace(GREEDY, max_new_tokens=3)).text == "answer 2"
    assert CachedChat(model, cache).answer([*ASKED, *ASKED], GREEDY).text == "answer 3"
    assert CachedChat(model, cache, identity="other weights").answer(ASKED, GREEDY).text == "answer 4"
    assert CachedChat(model, cache, fresh=True).answer(ASKED, GREEDY).text == "answer 5"
    assert CachedChat(model, cache).answer(ASKED, GREEDY).text == "answer 5"  # what a fresh run gave, not an older one
    assert cache.count() == 4 and cache.count("model") == 3
    assert cache.forget("model") == 3 and cache.count() == 1
    with pytest.raises(ConfigError):
        CachedChat(Counting(""), cache)


def test_only_what_would_come_again_is_kept(cache: AnswerCache):
    model = Counting()
    asked = CachedChat(model, cache)
    for _ in range(2):
        asked.answer(ASKED, ChatOptions(temperature=1.0))
    assert model.asked == 2 and cache.count() == 0
    for _ in range(2):
        asked.answer(ASKED, ChatOptions(temperature=1.0, seed=3))
    assert model.asked == 3 and cache.count() == 1
    assert chat_key("m", ASKED, GREEDY) != chat_key("m", ASKED, replace(GREEDY, seed=3))


def test_streams(cache: AnswerCache):
    model = Counting()
    asked = CachedChat(model, cache)
    next(iter(asked.stream(ASKED, GREEDY)))  # left before its end
    assert cache.count() == 0
    assert "".join(delta.text for delta in asked.stream(ASKED, GREEDY)) == "answer"
    (kept,) = asked.stream(ASKED, GREEDY)
    assert (kept.text, kept.finish_reason, kept.usage, kept.tokens) == ("answer", "length", TOLD, (TOKEN,))
    assert model.asked == 2 and asked.answer(ASKED, GREEDY).cached


def test_likelihoods(cache: AnswerCache):
    model = Counting()
    pairs = [Pair("a", "b"), Pair("a", "c"), Pair("a", "b"), Pair("broken", "x")]
    first = dict(CachedLikelihoods(model, cache).likelihoods(pairs))
    assert model.asked == 3 and first[2] == replace(first[0], cached=True)  # once for the same text
    again = dict(CachedLikelihoods(model, cache).likelihoods(pairs[:3]))
    assert model.asked == 3 and again == {place: replace(first[place], cached=True) for place in range(3)}
    assert cache.count() == 2  # what is no number is not kept
    dict(CachedLikelihoods(model, cache).rolling(["b", "c"]))
    assert model.asked == 5  # whole texts are another question
    dict(CachedLikelihoods(model, cache, fresh=True).rolling(["b"]))
    assert model.asked == 6


def test_many_threads(cache: AnswerCache):
    model = Counting()
    asked = CachedChat(model, cache)
    questions = [[{"role": "user", "content": str(n)}] for n in range(50)]
    threads = [threading.Thread(target=lambda: [asked.answer(one, GREEDY) for one in questions]) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert cache.count() == 50
    before = model.asked
    texts = {asked.answer(one, GREEDY).text for one in questions}
    assert model.asked == before and len(texts) == 50


KEEPER = """
import sys
from bloomery.core.answer_cache import AnswerCache, Kept
from bloomery.core.messages import Usage
cache = AnswerCache(sys.argv[1])
for n in range(int(sys.argv[2]), 1_000_000):
    cache.keep("model", "chat", [(f"{n:064x}", Kept(answer={"text": str(n)}, usage=Usage(), seconds=0.0))])
    print(n, flush=True)
"""


def test_a_kill_loses_nothing_that_was_told(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    keepers = [
        subprocess.Popen([sys.executable, "-c", KEEPER, str(path), str(start)], stdout=subprocess.PIPE, text=True)
        for start in (0, 500_000)
    ]
    told: list[int] = []
    for one in keepers:
        assert one.stdout is not None
        told += [int(one.stdout.readline()) for _ in range(100)]
    for one in keepers:
        os.kill(one.pid, signal.SIGKILL)
        told += [int(line) for line in one.communicate()[0].splitlines() if line.strip()]
    cache = AnswerCache(path)
    assert set(cache.find([f"{n:064x}" for n in told])) == {f"{n:064x}" for n in told}
    cache.close()
