"""The journal of answers: there again after a crash, a torn line left out."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.messages import ChatAnswer, ChatOptions, Usage
from bloomery.core.quantity import Quantity
from bloomery.corpus.annotation.journal import Journal, question_key

USAGE = Usage(prompt_tokens=3, completion_tokens=None, energy_joules=Quantity.exact(1.5, "counter"))
ANSWER = ChatAnswer(text="a \U0001f525", finish_reason="stop", usage=USAGE, seconds=0.5, seed=7)


def test_answers_are_there_again(tmp_path: Path):
    with Journal(tmp_path / "j") as journal:
        journal.add("k", ANSWER)
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == 1 and journal.get("k") == ANSWER and journal.get("other") is None


def test_a_torn_line_is_left_out_and_what_follows_is_sound(tmp_path: Path):
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.add("1", ANSWER)
        journal.add("2", ANSWER)
    whole = path.read_bytes()
    for size in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:size])
        with Journal(path) as journal:
            assert len(journal) == 1
            journal.add("3", ANSWER)
        with Journal(path) as journal:
            assert [journal.get(key) is not None for key in "123"] == [True, False, True]


def test_whatever_decides_the_answer_is_in_the_key():
    messages = [{"role": "user", "content": "x"}]
    first = question_key("m", messages, ChatOptions(seed=1))
    assert first == question_key("m", messages, ChatOptions(seed=1))
    others = [("n", messages, ChatOptions(seed=1)), ("m", messages, ChatOptions(seed=2))]
    others.append(("m", [{"role": "user", "content": "y"}], ChatOptions(seed=1)))
    assert first not in {question_key(*one) for one in others}
