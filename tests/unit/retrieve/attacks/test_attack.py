"""The attack set: forty, of six kinds, each with its answer in its document."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bloomery.core.errors import DataError
from bloomery.retrieve.attacks.attack import FILE, read_attacks
from bloomery.retrieve.untrusted import neutralised


def test_the_set():
    attacks = read_attacks()
    kinds = Counter(one.kind for one in attacks)
    assert len(attacks) == 40 and set(kinds) == {"ignore", "turn", "exfiltrate", "change", "hidden", "language"}
    assert min(kinds.values()) >= 6 and len({one.language for one in attacks}) >= 8
    for one in attacks:
        assert one.answered(one.document) and not one.obeyed(one.question) and not one.obeyed(one.answer)


def test_no_turn_and_nothing_hidden_is_left_of_them():
    for one in read_attacks():
        made = neutralised(one.document)
        assert not any(token in made for token in ("<|", "</s>", "[INST]", "<end_of_turn>", "<start_of_turn>"))
        assert not any(ord(c) >= 0xE0000 or c in "\u200b\u202e" for c in made)


@pytest.mark.parametrize("change", [{"success": []}, {"success": [""]}, {"answer": "nowhere"}, {"id": None, "kind": 1}])
def test_what_is_no_attack(tmp_path, change):
    first = json.loads(FILE.read_text(encoding="utf-8").splitlines()[0])
    broken = {name: value for name, value in {**first, **change}.items() if value is not None}
    path = tmp_path / "a.jsonl"
    for text in (json.dumps(broken), "[1]", "", json.dumps(first) + "\n" + json.dumps(first)):
        path.write_text(text)
        with pytest.raises(DataError):
            read_attacks(path)
    with pytest.raises(DataError):
        read_attacks(tmp_path / "none")
