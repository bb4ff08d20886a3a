"""Items of /v1/responses become the messages that the chat route would have been sent."""

from __future__ import annotations

import pytest

from bloomery.core.errors import RequestError
from bloomery.server.response_items import InputItem, item_image_urls, item_messages


def items(*given: dict) -> list[InputItem]:
    return [InputItem.model_validate(one) for one in given]


CALL = {"type": "function_call", "call_id": "c1", "name": "weigh", "arguments": '{"grams": 3}', "id": "fc_1"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "heavy"}


def test_calls_stand_in_the_assistants_message_and_outputs_answer_them():
    text = {"role": "assistant", "content": [{"type": "output_text", "text": "Well.", "annotations": []}]}
    user = {"role": "user", "content": "How heavy?"}
    plain = {"id": "c1", "type": "function", "function": {"name": "weigh", "arguments": {"grams": 3}}}
    second = CALL | {"call_id": "c2"}
    parts = OUTPUT | {
        "call_id": "c2",
        "output": [{"type": "input_text", "text": "li"}, {"type": "input_text", "text": "ght"}],
    }
    assert item_messages(items(user, text, CALL, second, OUTPUT, parts)) == [
        user,
        {"role": "assistant", "content": "Well.", "tool_calls": [plain, plain | {"id": "c2"}]},
        {"role": "tool", "content": "heavy", "tool_call_id": "c1"},
        {"role": "tool", "content": "light", "tool_call_id": "c2"},
    ]
    assert item_messages(items(user, CALL))[1]["content"] == ""  # a call without a word


@pytest.mark.parametrize(
    ("given", "param"),
    [(OUTPUT, "input.0.call_id"), (CALL | {"name": None}, "input.0.name"),
     (CALL | {"arguments": "[]"}, "input.0.arguments"),
     (CALL | {"status": "odd"}, "input.0.status"), ({"type": "reasoning", "summary": ["x"]}, "input.0"),
     ({"role": "user", "content": "x", "odd": 1}, "input.0.odd")],
)  # fmt: skip
def test_what_is_refused_is_named(given: dict, param: str):
    with pytest.raises(RequestError) as caught:
        item_messages(items(given))
    assert caught.value.param == param and caught.value.code


def test_places_count_from_what_this_request_brought():
    user = {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}
    assert item_image_urls(items(CALL, user), first=1) == [("input.0.content.0.image_url", "data:x")]
    with pytest.raises(RequestError) as caught:
        item_messages(items(CALL, OUTPUT, OUTPUT | {"call_id": "c9"}), first=1)
    assert caught.value.param == "input.1.call_id"
