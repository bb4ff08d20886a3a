"""Our engine behind the protocol of applications: the same as asking it directly."""

from __future__ import annotations

import json
import math

import pytest

from bloomery.core.errors import RequestError
from bloomery.core.messages import ChatOptions, chosen
from bloomery.corpus.annotation.chances import chances
from bloomery.engine import LanguageModel
from bloomery.engine.chat_model import EngineChat, sampling_options

ASK = [{"role": "user", "content": "Is iron a metal?"}]


def test_an_answer_is_the_engines(tiny: LanguageModel):
    options = ChatOptions(max_new_tokens=12, seed=3, temperature=0.8)
    found = EngineChat(tiny).answer(ASK, options)
    wanted = tiny.generate(ASK, max_new_tokens=12, seed=3, temperature=0.8)
    assert (found.text, found.finish_reason, found.seed) == (wanted.text, wanted.finish_reason, 3)
    assert found.usage.prompt_tokens == wanted.prompt_tokens
    assert found.usage.completion_tokens == wanted.completion_tokens and found.tokens is None
    assert found.seconds > 0


def test_a_stream_says_the_same(tiny: LanguageModel):
    options = ChatOptions(max_new_tokens=12, temperature=0.0)
    model = EngineChat(tiny, identity="model-0123")
    assert "".join(one.text for one in model.stream(ASK, options)) == model.answer(ASK, options).text
    assert model.name == "model-0123" and EngineChat(tiny).name == tiny.name


def test_choices_come_with_their_chances(tiny: LanguageModel):
    """Against the model's own distribution: the two most probable tokens that are words of letters, as choices."""
    logprobs = tiny.logits([tiny.encode_prompt(ASK)])[0, -1].log_softmax(-1)
    spelt = {token: tiny.tokenizer.token_bytes(token) for token in logprobs.topk(20).indices.tolist()}
    words = [data.decode() for data in spelt.values() if data.decode("utf-8", "replace").isalpha()]
    one = words[0]
    choices = (one, next(word for word in words if word[0] != one[0]))
    found = EngineChat(tiny).answer(ASK, ChatOptions(choices=choices, temperature=0.0, top_logprobs=20))
    choice = chosen(found.text, choices)
    assert choice is not None and found.tokens is not None
    assert b"".join(token.data for token in found.tokens).decode() == choice
    made = chances(found.tokens, choice, choices)
    # Their first letters differ, so whatever a choice begins with is that choice's.
    mass = {
        word: sum(math.exp(float(logprobs[t])) for t, data in spelt.items() if data and word.encode().startswith(data))
        for word in choices
    }
    # Logits of a batch and of a step differ by rounding in float32.
    assert made is not None and made.coverage == pytest.approx(sum(mass.values()), abs=1e-4)
    assert made.by_choice == pytest.approx({w: m / sum(mass.values()) for w, m in mass.items()}, abs=1e-4)


def test_schemas_are_kept_to(tiny: LanguageModel):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    found = EngineChat(tiny).answer(ASK, ChatOptions(schema=schema, seed=0, max_new_tokens=64))
    assert json.loads(found.text) in ({"a": 1}, {"a": 2})


def test_options_become_the_engines():
    assert sampling_options(ChatOptions(choices=("a", "b"), stop=("x",)))["constraint"] == {"choice": ["a", "b"]}
    assert sampling_options(ChatOptions())["stop"] is None


def test_what_the_engine_refuses_is_an_error(tiny: LanguageModel):
    with pytest.raises(RequestError) as caught:
        EngineChat(tiny).answer([{"role": "user", "content": "iron " * 2000}], ChatOptions())
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("plain", [False, True])
def test_tokens_of_a_prompt_are_counted_as_they_are_read(tiny: LanguageModel, plain: bool):
    model = EngineChat(tiny, plain=plain)
    found = model.answer(ASK, ChatOptions(max_new_tokens=1))
    assert model.prompt_tokens(ASK) == found.usage.prompt_tokens
    assert model.prompt_tokens([{"role": "user", "content": "iron " * 5000}]) > model.context_tokens
    assert model.context_tokens <= tiny.context_length
