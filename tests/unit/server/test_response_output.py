"""Output items of a response: their events nest, and the items are what the events told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bloomery.server.response_output import OutputItems
from bloomery.server.tool_calls import CallArguments, CallStart, Content, Event

PIECES = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=3).map(Content),
        st.lists(st.text(max_size=3), max_size=3).map(lambda parts: ("call", parts)),
    ),
    max_size=8,
)


@given(PIECES)
def test_events_tell_the_items(pieces: list):
    answer: list[Event] = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, Content):
            answer.append(piece)
        else:
            answer += [CallStart(number, "melt"), *(CallArguments(number, part) for part in piece[1])]
    output = OutputItems(id_characters=24)
    told = [one for event in answer for one in output.push(event, [])] + list(output.finish("incomplete"))
    texts: dict[int, str] = {}
    opened: list[int] = []
    for kind, data in told:
        place = data["output_index"]
        if kind == "output_item.added":
            assert place == len(opened) and data["item"]["status"] == "in_progress"
            opened.append(place)
        else:
            assert place == opened[-1]  # one item at a time
        if kind.endswith(".delta"):
            texts[place] = texts.get(place, "") + data["delta"]
        if kind.endswith(("text.done", "arguments.done")):
            assert texts.get(place, "") == data.get("text", data.get("arguments"))
    assert len(opened) == len(output.items) == len({item["id"] for item in output.items}) > 0
    assert [item["status"] for item in output.items] == ["completed"] * (len(opened) - 1) + ["incomplete"]
    calls = [item for item in output.items if item["type"] == "function_call"]
    assert len({call["call_id"] for call in calls}) == len(calls) == sum(isinstance(e, CallStart) for e in answer)
    written = "".join(i["content"][0]["text"] for i in output.items if i["type"] == "message")
    assert written == "".join(e.text for e in answer if isinstance(e, Content))
