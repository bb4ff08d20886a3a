"""Passages that fit a context: held to the tokens that the model's own tokenizer makes of the whole prompt."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest

from bloomery.core.asking import TOO_LONG
from bloomery.core.errors import RequestError
from bloomery.core.messages import Message
from bloomery.retrieve.answers.fitting import Measured, fitted, num_unread
from bloomery.retrieve.answers.passages import Passage, PassageConfig, assemble, estimated_tokens
from bloomery.retrieve.chunk import Chunk, Hit


class Counting:
    """A model that counts words."""

    def __init__(self, context: int) -> None:
        self.context_tokens = context

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(one["content"].split()) for one in messages)


def hits(count: int, words: int = 30) -> list[Hit]:
    made = []
    for n in range(count):
        text = " ".join(f"w{n}x{place}" for place in range(words))
        chunk = Chunk(id=str(n), document_id=f"d{n}", text=text, start=0, end=len(text))
        made.append(Hit(chunk=chunk, score=float(count - n)))
    return made


def asked(passages: Sequence[Passage]) -> list[Message]:
    return [{"role": "user", "content": " ".join(["say", "it", *(f"<p> {one.text} </p>" for one in passages)])}]


def fit(context: int, *, new: int = 40, budget: int = 1500, found: Sequence[Hit] = (), most: int = 8):
    config = PassageConfig(budget_tokens=budget, max_passages=most)
    return fitted(
        found or hits(8),
        config,
        asked,
        model=Counting(context),
        count=lambda text: len(text.split()),
        max_new_tokens=new,
    )


@pytest.mark.parametrize("context", [60, 80, 120, 200, 300, 1000])
def test_prompt_and_answer_fit(context: int):
    found = fit(context)
    tokens = Counting(context).prompt_tokens(found.messages)
    assert found.passages and tokens + found.max_new_tokens <= context
    assert found.max_new_tokens >= min(40, context // 4)
    assert [one.document_id for one in found.passages] == [f"d{n}" for n in range(len(found.passages))]  # best first
    if context < 1000:
        assert tokens > context - min(40, context // 4) - 60  # one more would not fit, its guessed frame and all


def test_a_long_context_changes_nothing():
    whole = fit(100_000)
    assert whole.passages == assemble(hits(8), PassageConfig(), count=lambda text: len(text.split()))
    assert whole.max_new_tokens == 40 and whole.budget_tokens == 1500


def test_no_room_at_all_says_so():
    with pytest.raises(RequestError, match="take 2 tokens of the 3") as caught:
        fit(3)
    assert caught.value.code == TOO_LONG and "extract" in caught.value.hint and caught.value.param == "question"


def test_a_model_that_does_not_count_gets_all():
    config = PassageConfig(max_passages=3)
    found = fitted(hits(8), config, asked, model=object(), count=estimated_tokens, max_new_tokens=7)
    assert len(found.passages) == 3 and found.max_new_tokens == 7


def test_what_is_not_read_is_counted():
    found = hits(5)
    again = Hit(chunk=Chunk(id="again", document_id="e", text=found[0].chunk.text.upper(), start=0, end=1), score=0.5)
    passages = assemble([*found, again], PassageConfig(max_passages=2), count=estimated_tokens)
    assert num_unread([*found, again], passages) == 3  # the same text in another document was read


def test_the_engines_own_count(tmp_path):
    """A tiny context, the real prompt, the model's tokenizer: what `stream` refuses is exactly one token more."""
    from bloomery.engine import load_language_model
    from bloomery.engine.chat_model import EngineChat
    from bloomery.retrieve.answers.prompt import messages

    tiny = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
    model = load_language_model(tiny(tmp_path / "tiny", context=1400))
    chat = EngineChat(model)
    assert isinstance(chat, Measured) and chat.context_tokens == 1400

    def prompt(passages: Sequence[Passage]) -> list[Message]:
        return messages("What is w1x1?", passages, "markers")

    found = fitted(
        hits(8), PassageConfig(), prompt, model=chat, count=lambda t: len(model.tokenizer.encode(t)), max_new_tokens=64
    )
    ids = model.encode_prompt(found.messages)
    assert 0 < len(found.passages) < 8 and len(ids) == chat.prompt_tokens(found.messages) <= 1400 - 64
    with pytest.raises(RequestError, match="context"):
        model.encode_prompt(prompt(assemble(hits(8), PassageConfig(budget_tokens=4000))))
    model.close()
