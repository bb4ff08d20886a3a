"""`bloomery export`."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

make_tiny_adapter = runpy.run_path(str(Path(__file__).parents[2] / "tiny_adapter.py"))["make_tiny_adapter"]


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


def test_quantised_with_a_report(call, tiny, tmp_path):
    home = ["--home", str(tiny.home), "--quiet"]
    answer = json.loads(call("export", str(tmp_path / "int8"), "--quantize", "int8", "--json", *home).out)
    report = answer["report"]
    assert answer["quantize"] == "int8" and report["after"]["packing"]["format"] == "int8"
    assert abs(report["bits_per_byte_loss"]) < 0.1 and 0.5 < report["top1_agreement"] <= 1.0
    assert report["after"]["file_bytes"] < report["before"]["file_bytes"]
    config = json.loads((tmp_path / "int8" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    # It is a model like any other, and the same text may be named.
    text = tmp_path / "text.txt"
    text.write_text("term1 term2 term3 " * 30)
    lines = call(
        "export", str(tmp_path / "int4"), "--quantize", "int4", "--group-size", "64", "--measure", str(text), *home
    ).out
    for word in ("bits per byte", "same first choice", "bytes of weight files", "decode, tokens/s", "J"):
        assert word in lines
    said = call("generate", "term1", "--model", str(tmp_path / "int8"), "--max-new-tokens", "4", "--seed", "0", *home)
    assert said.code == 0
    said = json.loads(call("generate", "a", "--model", str(tmp_path / "int4"), "--json", *home).out)
    assert said["weights"]["format"] == "int4"
    said = json.loads(call("generate", "a", "--weights", "float16", "--json", *home).out)
    assert said["weights"]["format"] == "float16" and not said["weights"]["fallbacks"]
    half = json.loads(
        call("export", str(tmp_path / "half"), "--quantize", "float16", "--measure", str(text), "--json", *home).out
    )
    assert half["report"]["after"]["packing"]["format"] == "float16"
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    nothing = call("export", str(tmp_path / "again"), "--quantize", "int8", "--model", str(tmp_path / "int8"), *home)
    assert "loss unknown" in nothing.out  # a folder has no corpus


def test_mistakes_of_quantising(call, tiny, tmp_path):
    home, out = ["--home", str(tiny.home), "--quiet"], str(tmp_path / "out")
    assert "int8, int8-groups, int4, float16" in call.mistake("export", out, "--quantize", "int3", *home)
    assert "groups of 48" in call.mistake("export", out, "--quantize", "int4", "--group-size", "48", *home)
    assert "--quantize" in call.mistake("export", out, "--measure", str(tmp_path), *home)
    assert "GGUF" in call.mistake("export", str(tmp_path / "m.gguf"), "--gguf", "--quantize", "int8", *home)
    assert "read" in call.mistake("export", out, "--quantize", "int8", "--measure", str(tmp_path / "none"), *home)
    assert "unknown weights" in call.mistake("generate", "x", "--weights", "int3", *home)
    assert not (tmp_path / "out").exists()


def test_questions_in_the_report(call, tiny, tmp_path):
    home, questions = ["--home", str(tiny.home), "--quiet"], tmp_path / "copa.jsonl"
    items = [{"query": f"term{n}", "choices": ["term2 term3", "term4"], "gold": n % 2} for n in range(8)]
    questions.write_text("\n".join(map(json.dumps, items)))
    command = ["export", str(tmp_path / "a"), "--quantize", "int8", "--choices", str(questions), *home]
    found = json.loads(call(*command, "--json").out)["report"]["choices"]
    assert found["items"] == 8 and found["same_choice"] >= 0.5
    for side in ("before", "after"):
        assert 0 <= found[side]["low"] <= found[side]["accuracy"] <= found[side]["high"] <= 1
    command[1] = str(tmp_path / "b")
    assert "right choices" in call(*command).out
    questions.write_text("{}")
    command[1] = str(tmp_path / "c")
    assert "copa.jsonl:1" in call.mistake(*command) and not (tmp_path / "c").exists()
    assert "--quantize" in call.mistake("export", command[1], "--choices", str(questions), *home)


def test_an_adapter_merged_and_asked(call, tiny, tmp_path):
    """What the merged folder writes is what the model with the adapter writes."""
    home, out = ["--home", str(tiny.home), "--quiet"], str(tmp_path / "plain")
    call("export", out, *home)
    adapter = str(make_tiny_adapter(tmp_path / "red", tmp_path / "plain", seed=1, scale=0.5))
    call("export", str(tmp_path / "merged"), "--adapter", adapter, *home)
    options = ["--temperature", "0", "--max-new-tokens", "12", "--json", *home]

    def written(*more: str) -> list[int]:
        return json.loads(call("generate", "term1 term2", *more, *options).out)["token_ids"]

    assert written("--model", str(tmp_path / "merged")) == written("--adapter", adapter) != written()
    assert "plain folder" in call.mistake("export", out + "2", "--adapter", adapter, "--quantize", "int8", *home)
    assert "no adapter" in call.mistake("generate", "a", "--adapter", out, *home)
    assert "no adapter" in call.mistake("export", out + "2", "--adapter", out, *home)


def test_integers_fitted_to_a_text(call, tiny, tmp_path):
    """Other integers than each by itself, in files of the same layout; too little of a text is said."""
    home = ["--home", str(tiny.home), "--quiet"]
    text = tmp_path / "text.txt"
    text.write_text("term1 term2 term3 " * 400)

    def weights(name: str, *more: str) -> tuple[bytes, list[str]]:
        answer = json.loads(call("export", str(tmp_path / name), "--quantize", "int4", *more, "--json", *home).out)
        return (tmp_path / name / "model.safetensors").read_bytes(), answer["notes"]

    fitted, said = weights("fitted", "--calibrate", str(text))
    assert said == []
    text.write_text("term1 term2")
    plain, said = weights("plain", "--calibrate", str(text))
    assert len(said) == 1 and "256 tokens or more: they are rounded each by itself" in said[0]
    assert len(fitted) == len(plain) and fitted != plain
    assert json.loads(call("generate", "a", "--model", str(tmp_path / "fitted"), "--json", *home).out)["token_ids"]
    assert "--quantize" in call.mistake("export", str(tmp_path / "none"), "--calibrate", str(text), *home)
