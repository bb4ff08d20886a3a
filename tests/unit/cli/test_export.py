"""`bloomery export`."""

from __future__ import annotations

import json


def test_a_folder_and_a_file(call, tiny, tmp_path):
    home = ["--home", str(tiny.home), "--quiet"]
    answer = json.loads(call("export", str(tmp_path / "out"), "--dtype", "bfloat16", "--json", *home).out)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(answer["files"])
    assert answer["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*"))
    assert answer["notes"] == []
    call("export", str(tmp_path / "m.gguf"), "--gguf", *home)
    assert (tmp_path / "m.gguf").read_bytes()[:4] == b"GGUF"


def test_mistakes(call, tiny, tmp_path):
    home = ["--home", str(tiny.home), "--quiet"]
    assert "--gguf" in call.mistake("export", str(tmp_path / "m.gguf"), *home)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "already" in call.mistake("export", str(tmp_path / "full"), *home)
    assert "model" in call.mistake("export", str(tmp_path / "out"), "--model", "model-000000000000", *home)
