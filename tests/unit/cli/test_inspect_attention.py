"""`bloomery inspect attention`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bloomery.cli.inspect_attention import attention

TEXT = "term1 term2 term3"


def test_numbers_and_a_picture(call, tiny):
    answer = call("inspect", "attention", "--text", TEXT, "--home", str(tiny.home), "--query", "2")
    assert answer.code == 0
    wanted = ("q.k", "masked", "|weight v|", "hidden", "all heads of the layer", "rows are queries", "not explanation")
    assert [words for words in wanted if words not in answer.out] == []
    assert "differs from what was served by at most" in answer.out
    assert max(len(line) for line in answer.out.splitlines() if "█" not in line) < 160
    assert attention.__doc__


def test_json_is_all_of_it(call, tiny):
    options = ("--text", TEXT, "--home", str(tiny.home), "--json")
    view = json.loads(call("inspect", "attention", *options, "--layer", "0", "--head", "-1", "--query", "1").out)
    assert (view["layer"], view["head"], view["query"]["index"]) == (0, view["heads"] - 1, 1)
    assert sum(key["weight"] for key in view["keys"]) == pytest.approx(1, abs=1e-5)
    assert view["keys"][2]["masked"] is None and view["keys"][0]["vector"] is None
    assert view["max_difference"] < 1e-4
    whole = json.loads(call("inspect", "attention", *options, "--vectors").out)
    assert len(whole["keys"][0]["vector"]) == view["head_dim"]


def test_vectors_are_printed(call, tiny):
    options = ("--text", TEXT, "--home", str(tiny.home), "--vectors")
    view = json.loads(call("inspect", "attention", *options, "--json").out)
    lines = call("inspect", "attention", *options).out.splitlines()
    found = next(line for line in lines if line.startswith("k 1: ")).split()[2:]
    assert [float(word) for word in found] == pytest.approx(view["keys"][1]["vector"], rel=1e-3)
    assert any(line.startswith("head output: ") for line in lines)


def test_cross_attention_of_an_encoder_decoder(call, tiny, tmp_path: Path):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    made = (tiny.home / "artifacts").glob("tokenizer-*")
    tokenizer = min(made, key=lambda folder: folder.stat().st_mtime)  # the workspace's own; other tests may add some
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, tmp_path)
    torch.manual_seed(0)
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    options = ("--text", TEXT, "--target", "term", "--home", str(tiny.home))
    answer = call("inspect", "attention", str(tmp_path), *options, "--cross")
    assert answer.code == 0 and "decoder.layers.cross_attn, layer 1 of 2" in answer.out
    view = json.loads(call("inspect", "attention", str(tmp_path), *options, "--cross", "--json").out)
    assert len(view["keys"]) > len(view["queries"])
    assert "decoder.layers.self_attn" in call("inspect", "attention", str(tmp_path), *options).out
    assert "--target" in call.mistake("inspect", "attention", str(tmp_path), "--cross", "--home", str(tiny.home))


def test_the_preset_text(call, tiny):
    view = json.loads(call("inspect", "attention", "--home", str(tiny.home), "--json").out)
    assert "".join(token["text"] for token in view["queries"]).endswith("How are you?")


@pytest.mark.parametrize("name", ["a.html", "b.svg", "c.PNG"])
def test_output(call, tiny, tmp_path: Path, name: str):
    answer = call("inspect", "attention", "--home", str(tiny.home), "--output", str(tmp_path / name))
    assert answer.code == 0 and f"written: {tmp_path / name}" in answer.out
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layer", "7"), "no layer 7 (0 to 0"),
        (("--head", "99"), "no head 99"),
        (("--query", "99"), "no query 99"),
        (("--text", "term1 " * 200), "shorten it"),
        (("--cross",), "no cross attention"),
        (("--target", "x"), "no target"),
        (("--output", "a.pdf"), "end it in .html"),
        (("--output", "/nowhere/at/all.html"), "No such file"),
        (("--layer", "x"), "layer"),
    ],
)
def test_mistakes(call, tiny, options: tuple[str, ...], words: str):
    assert words in call.mistake("inspect", "attention", "--home", str(tiny.home), *options)


def test_a_picture_for_a_model_that_reads_none(call, tiny, tmp_path):
    said = call.mistake("inspect", "attention", "--image", str(tmp_path / "x.png"), "--home", str(tiny.home))
    assert "reads no pictures" in said
