"""`bloomery inspect source`: what is shown of the first documents, and of what is refused."""

from __future__ import annotations

import json
from pathlib import Path


def test_json_says_what_was_read_and_refused(call, shared_data: Path, tmp_path: Path):
    path = shared_data / "web" / "warc" / "whirlwind" / "whirlwind.warc.gz"
    answer = call("inspect", "source", str(path), "--home", str(tmp_path), "--characters", "8", "--json", "--quiet")
    seen = json.loads(answer.out)
    assert seen["documents"][0]["source"] == f"{path}, offset 1023"
    assert seen["documents"][0]["text"] == "Escopete"
    assert seen["documents"][0]["metadata"]["language"] == "an"
    assert seen["refused"] == {"record_type": 3}
    assert seen["first_refused"][0] == {"reason": "record_type", "where": f"{path}, offset 0", "detail": "warcinfo"}
    assert seen["ended"] is True


def test_text_says_the_same(call, tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,n\none,1\nbroken\ntwo,2\n")
    answer = call("inspect", "source", str(tmp_path / "a.csv"), "--home", str(tmp_path), "--documents", "9")
    assert "| one" in answer.out and "| two" in answer.out
    assert "line 3: broken_row (1 fields, but 2 columns)" in answer.out


def test_mistakes_are_one_line(call, tmp_path: Path):
    home = ("--home", str(tmp_path))
    assert "no source" in call.mistake("inspect", "source", *home)
    assert "none.warc" in call.mistake("inspect", "source", str(tmp_path / "none.warc"), *home)
    assert "at least 1" in call.mistake("inspect", "source", "x", "--documents", "0", *home)
