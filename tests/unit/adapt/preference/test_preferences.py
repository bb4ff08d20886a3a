"""Preferences in the forms that there are; real files of two projects; what is none is said with its row."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import pytest

from bloomery.adapt.preference.preferences import Judged, Preference, read_judged, read_preferences, read_rows
from bloomery.core.errors import DataError

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).parents[5] / "shared" / "data") / "instruct"
USER = {"role": "user", "content": "What is 2+2?"}


def _file(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PAIR = Preference((USER,), "4", "5")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "What is 2+2?", "chosen": "4", "rejected": "5"}, Preference("What is 2+2?", "4", "5")),
        ({"prompt": [USER], "chosen": [_said("4")], "rejected": [_said("5")]}, PAIR),
        ({"prompt": [USER], "chosen": _said("4"), "rejected": "5"}, PAIR),
        ({"messages": [USER], "chosen": "4", "rejected": "5"}, PAIR),
        ({"chosen": [USER, _said("4")], "rejected": [USER, _said("5")]}, PAIR),
        ({"instruction": "What is 2+2?", "chosen": "4", "rejected": "5", "output": "4"}, PAIR),
        (
            {
                "conversations": [{"from": "human", "value": "What is 2+2?"}],
                "chosen": {"from": "gpt", "value": "4"},
                "rejected": {"from": "gpt", "value": "5"},
            },
            PAIR,
        ),
    ],
)
def test_every_form_of_a_pair(tmp_path, row, expected):
    assert read_preferences(_file(tmp_path, row)) == [expected]


def test_an_instruction_has_its_input_and_system_message():
    row = {"instruction": "Spell:", "input": "freind", "system": "Be short.", "chosen": "a", "rejected": "b"}
    from bloomery.adapt.preference.preferences import prompt_of

    assert prompt_of(row, "") == (
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Spell:\n\nfreind"},
    )


def test_every_form_of_a_judged_answer(tmp_path):
    rows = [
        {"prompt": "a", "completion": "b", "label": True},
        {"prompt": [USER], "completion": [_said("5")], "label": 0},
        {"messages": [USER, _said("4")], "kto_tag": True},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ]
    assert read_judged(_file(tmp_path, *rows)) == [
        Judged("a", "b", True),
        Judged((USER,), "5", False),
        Judged((USER,), "4", True),
        Judged("a", "b", True),
        Judged("a", "c", False),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "rejected"),
        ({"chosen": "b", "rejected": "c"}, "prompt"),
        ({"prompt": "a", "chosen": [USER], "rejected": "c"}, "assistant"),
        ({"prompt": 5, "chosen": "a", "rejected": "c"}, "messages"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "c"}, "content"),
        ([1, 2], "no object"),
    ],
)
def test_what_is_no_pair_is_said_with_its_row(tmp_path, row, said):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(DataError, match=said) as caught:
        read_preferences(_file(tmp_path, good, row))
    assert "row 2" in caught.value.message


@pytest.mark.parametrize("label", [None, "yes", 2, 0.5])
def test_a_label_is_true_or_false(tmp_path, label):
    with pytest.raises(DataError, match="label"):
        read_judged(_file(tmp_path, {"prompt": "a", "completion": "b", "label": label}))


def test_what_is_no_json_is_said(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{broken")
    with pytest.raises(DataError, match="JSON"):
        list(read_rows(path))
    path.write_text("")
    with pytest.raises(DataError, match="no rows"):
        list(read_rows(path))
    with pytest.raises(DataError, match="cannot read"):
        list(read_rows(tmp_path / "none.json"))
    packed = tmp_path / "cut.jsonl.xz"
    packed.write_bytes(lzma.compress(b'{"a": 1}\n' * 50)[:-20])
    with pytest.raises(DataError, match="cannot read"):
        list(read_rows(packed))


@pytest.mark.skipif(not DATA.is_dir() and not os.environ.get("CI"), reason="needs the shared data")
def test_real_files_are_read_whole():
    first = read_preferences(DATA / "rasbt_instruction-data-with-preference.json.xz")
    assert len(first) == 1100 and first[0].rejected.startswith("The spelling of the given phrase")
    assert isinstance(first[0].prompt, tuple) and first[0].prompt[0]["content"].endswith("freind --> friend")
    second = read_preferences(DATA / "llamafactory_dpo_en_demo.json.xz")
    assert len(second) == 300 and all(one.prompt[-1]["role"] == "user" for one in second)  # type: ignore[index]
