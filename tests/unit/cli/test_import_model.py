"""`bloomery import`."""

from __future__ import annotations

import json


def test_a_folder_becomes_a_model(call, tiny, tmp_path):
    models = [
        row for row in json.loads(call("runs", "--home", str(tiny.home), "--json").out) if row["stage"] == "pretrain"
    ]
    assert models
    folder = tmp_path / "out"
    call("export", str(folder), "--home", str(tiny.home), "--quiet")
    home = str(tmp_path / "home")
    made = json.loads(call("import", str(folder), "--home", home, "--quiet", "--json").out)
    assert made["kind"] == "model" and made["metrics"]["source"] == "out"
    text = call("import", str(folder), "--home", home, "--quiet").out
    assert f"{made['metrics']['parameters']:,} parameters" in text
    same = call("generate", "term1", "--temperature", "0", "--max-new-tokens", "8", "--home", home, "--quiet").out
    first = ["generate", "term1", "--temperature", "0", "--max-new-tokens", "8", "--home", str(tiny.home), "--quiet"]
    assert same == call(*first).out


def test_a_file_of_llama_cpps(call, tiny, tmp_path):
    """Out as GGUF and in again: the same text; a model that is asked for by the file's path is hinted at."""
    file, home = tmp_path / "m.gguf", str(tmp_path / "home")
    call("export", str(file), "--gguf", "--home", str(tiny.home), "--quiet")
    made = json.loads(call("import", str(file), "--home", home, "--quiet", "--json").out)
    assert made["kind"] == "model" and made["metrics"]["source"] == "m.gguf"
    asked = ["generate", "term1", "--temperature", "0", "--max-new-tokens", "8", "--quiet", "--home"]
    assert call(*asked, home).out == call(*asked, str(tiny.home)).out
    assert f"bloomery import {file}" in call.mistake("generate", "term1", "--model", str(file), "--home", home)
    file.write_bytes(file.read_bytes()[:3000])
    assert "cut off" in call.mistake("import", str(file), "--home", home)
    assert "no file" in call.mistake("import", str(tmp_path / "none.gguf"), "--home", home)


def test_nothing_there(call, tmp_path):
    assert "config.json" in call.mistake("import", str(tmp_path), "--home", str(tmp_path / "home"))
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert "mamba" in call.mistake("import", str(tmp_path), "--home", str(tmp_path / "home"))
