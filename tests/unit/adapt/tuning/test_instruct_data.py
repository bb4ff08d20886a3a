"""Rows of every form that data of others has, real files among them, and what is said of rows that are none."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bloomery.adapt.tuning.instruct_data import read_examples
from bloomery.core.errors import DataError

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).parents[5] / "shared" / "data") / "instruct"


def _file(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_forms(tmp_path: Path):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = read_examples(
        _file(
            tmp_path,
            {"messages": talk},
            {"instruction": "Sum", "input": "1 2", "output": "3"},
            {"instruction": "Sum", "context": "", "response": "3", "category": "x"},
            {"prompt": "p", "response": "r"},
            {"prompt": [talk[0]], "completion": [talk[1]]},
            {"text": "t", "label": 1},
            {"text": "t"},
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"},
        )
    )
    assert rows[0].messages == tuple(talk) and rows[0].where.endswith("rows.jsonl line 1")
    assert [one["content"] for one in rows[1].messages] == ["Sum\n\n1 2", "3"]
    assert [one["content"] for one in rows[2].messages] == ["Sum", "3"]
    assert (rows[3].prompt, rows[3].answer) == ("p", "r")
    assert [one.get("weight") for one in rows[4].messages] == [0, None]
    assert (rows[5].answer, rows[5].label) == ("t", "1")
    assert (rows[6].answer, rows[6].label, rows[6].prompt) == ("t", None, None)
    assert [one["role"] for one in rows[7].messages] == ["system", "user", "assistant"]
    assert rows[0].identity != rows[1].identity


def test_parts_with_values(tmp_path: Path):
    parts = [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "a"}]
    calls = [{"type": "tool_call", "value": '{"name": "f", "arguments": {}}'}]
    said = [{"role": "assistant", "content": parts}, {"role": "assistant", "content": calls}]
    (row,) = read_examples(_file(tmp_path, {"messages": said}))
    assert row.messages[0] == {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    assert row.messages[1]["tool_calls"][0]["function"]["name"] == "f"
    with pytest.raises(DataError, match="the type 'sound'"):
        said[0]["content"] = [{"type": "sound", "value": "x"}]
        read_examples(_file(tmp_path, {"messages": said}))


def test_packed_and_tables(tmp_path: Path):
    table = _file(tmp_path, "text,label\n", '"a, b",x\n', "c,y\n", name="rows.csv")
    assert [(one.answer, one.label) for one in read_examples(table)] == [("a, b", "x"), ("c", "y")]
    (tmp_path / "rows.tsv.gz").write_bytes(gzip.compress(b'label\ttext\nx\t"a" b\ny\t"c\n'))
    assert [(one.label, one.answer) for one in read_examples(tmp_path / "rows.tsv.gz")] == [("x", '"a" b'), ("y", '"c')]
    listed = _file(tmp_path, json.dumps([{"text": "one"}, {"text": "two"}]), name="rows.json")
    assert read_examples(listed)[1].where.endswith("item 2")


REAL = {
    "rasbt_instruction-data.json.xz": 1100,
    "dolly_hhrlhf_train_small.jsonl.xz": None,
    "llamafactory_alpaca_en_demo.json.xz": None,
    "llamafactory_glaive_toolcall_en_demo.json.xz": None,
    "llamafactory_reason_tool_use_demo_50.jsonl.xz": 50,
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str):
    if not (DATA / name).is_file() and not os.environ.get("CI"):
        pytest.skip(f"no {DATA / name}")
    found = read_examples(DATA / name)
    assert len(found) == (REAL[name] or len(found)) >= 50
    if "toolcall" in name:
        calls = [one for row in found for one in row.messages if one.get("tool_calls")]
        assert calls and calls[0]["tool_calls"][0]["function"]["name"]
        assert any(row.tools and row.tools[0]["type"] == "function" for row in found)


MISTAKES: list[tuple[Any, str]] = [
    ("{", "line 1 is no JSON"),
    ({"a": 1}, "line 1 has none of the known keys, but a"),
    ("[1, 2]", "item 1 should be an object"),
    ('{"text": "a"}\n5\n', "line 2 should be an object"),
    ({"messages": []}, "messages should be a list"),
    ({"messages": [{"content": "a"}]}, "a message has no role"),
    ({"messages": [{"role": "user", "content": "a"}]}, "nothing is said by the assistant"),
    ({"messages": [{"role": "assistant", "content": "a", "weight": 2}]}, "weight is 0 or 1"),
    ({"prompt": "a", "completion": ""}, "the completion is empty"),
    ({"prompt": "a"}, "completion should be a text, not None"),
    ({"instruction": "a", "output": 5}, "output should be a text, not 5"),
    ({"text": " "}, "the text is empty"),
    ({"text": "a", "label": ["b"]}, "a label is a text or a number"),
    ({"conversations": [{"value": "a"}]}, "does not say from whom"),
    ({"conversations": [{"from": "function_call", "value": "{"}]}, "no JSON"),
    ({"messages": [{"role": "assistant", "content": "a"}], "tools": "{"}, "tools are no JSON"),
    ("", "has no examples"),
]


@pytest.mark.parametrize(("row", "message"), MISTAKES)
def test_mistakes(tmp_path: Path, row: Any, message: str):
    path = _file(tmp_path, row)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in caught.value.one_line()


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(DataError, match="there is no file"):
        read_examples(tmp_path / "not-there.jsonl")
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "a"}\n\xff\xfe')
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        read_examples(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl.xz").write_bytes(b"no xz at all")
    with pytest.raises(DataError, match="cannot read"):
        read_examples(tmp_path / "rows.jsonl.xz")
    with pytest.raises(DataError, match="line 2 has another number of columns"):
        read_examples(_file(tmp_path, "text,label\n", "a,b,c\n", name="rows.csv"))
