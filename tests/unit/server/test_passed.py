"""What goes on to vLLM, and what is counted of what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import RequestError
from bloomery.server.passed import PassedRecord, checked_body, most_new_tokens
from bloomery.server.schemas import ChatBody, CompletionBody

HELLO = [{"role": "user", "content": "Hello"}]


def sent(**raw: Any) -> dict[str, Any]:
    raw = {"model": "m", **raw}
    body = ChatBody.model_validate(raw) if "messages" in raw else CompletionBody.model_validate(raw)
    return checked_body(body, raw, default_tokens=99)


def test_what_goes_on_is_the_body_without_what_is_ours():
    assert sent(prompt="x", priority=1, timeout_seconds=2, seed=None) == {"model": "m", "prompt": "x"}
    assert sent(messages=HELLO)["max_tokens"] == 99 and "max_tokens" not in sent(
        messages=HELLO, max_completion_tokens=3
    )
    assert sent(prompt="x", stream=True, stream_options={"include_usage": False})["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }
    assert sent(prompt="x", guided_regex="a")["structured_outputs"] == {"regex": "a"}
    named = {"type": "function", "function": {"name": "f"}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert sent(messages=HELLO, tools=tools, tool_choice=named)["tool_choice"] == named


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "typical_p": 0.3}, "typical_p"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "x", "guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
        ({"messages": HELLO, "stream_options": {}}, "stream_options"),
    ],
)
def test_what_cannot_be_honoured_is_named(raw: dict, param: str):
    with pytest.raises(RequestError) as caught:
        sent(**raw)
    assert caught.value.param == param


def test_tokens_that_may_be_written():
    assert most_new_tokens(CompletionBody(model="m", prompt="x", n=2), 3, default_tokens=9) == 16 * 6
    chat = ChatBody.model_validate({"model": "m", "messages": HELLO, "n": 2, "max_tokens": 5})
    assert most_new_tokens(chat, 1, default_tokens=9) == 10


def test_a_record_of_counts_alone():
    record = PassedRecord(
        id="x", route="/", model="m", tenant="t", status=200, time=0.0, seconds=1.0, prompt_count=7,
        prompt_texts=["a"], answer_texts=["b"], reasons=["stop"],
    )  # fmt: skip
    assert (record.prompt_tokens, record.prompts(), record.finish_reasons) == (7, ["a"], ["stop"])
    assert record.texts == [("b", ())]
