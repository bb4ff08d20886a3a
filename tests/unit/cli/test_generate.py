"""`bloomery generate`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest


def test_json_and_stream_agree(call, tiny):
    options = ("--home", str(tiny.home), "--quiet", "--max-new-tokens", "8", "--seed", "3", "--temperature", "0.9")
    result = json.loads(call("generate", "term1 term2", *options, "--json").out)
    assert len(result["token_ids"]) == len(result["logprobs"]) <= 8
    assert result["finish_reason"] in ("stop", "length")
    assert call("generate", "term1 term2", *options).out == result["text"] + "\n"


def test_the_second_start_needs_no_pytorch(call, tiny, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A model that is there as an image says the same, in a process of its own; a request for more goes the usual
    way."""
    from bloomery.models.native.library import library

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("bloomery.models.native.trial.mean_of", lambda _: 2.0)  # so small a one may be slower
    monkeypatch.setattr("bloomery.models.native.trial.measure_prompt", lambda _: 2.0)
    options = ("--home", str(tiny.home), "--max-new-tokens", "8", "--seed", "3", "--temperature", "0.9")
    first = call("generate", "term1 term2", *options)
    if "kept for quick starts" not in first.err:
        assert library().calls is None
        pytest.skip(library().text)
    assert str(tmp_path) in first.err
    command = ["-X", "importtime", "-m", "bloomery", "generate", "term1 term2", *options]
    second = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=True)
    assert second.stdout == first.out and "tokens/s" in second.stderr and "kept" not in second.stderr
    loaded = {line.rpartition("|")[2].strip() for line in second.stderr.splitlines() if line.startswith("import time")}
    assert "bloomery.engine.quick_start" in loaded and "torch" not in loaded
    result = json.loads(call("generate", "term1 term2", *options, "--json").out)
    assert result["text"] + "\n" == first.out
    monkeypatch.setenv("BLOOMERY_IMAGES", "off")
    assert call("generate", "term1 term2", *options).out == first.out


def test_prompt_from_stdin(call, tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("term1"))
    answer = call("generate", "--home", str(tiny.home), "--max-new-tokens", "3", "--temperature", "0")
    assert answer.code == 0 and "tokens/s" in answer.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--temperature", "-1"), "temperature"),
        (("--top-p", "2"), "top_p"),
        (("--max-new-tokens", "-1"), "max_new_tokens"),
    ],
)
def test_bad_numbers(call, tiny, options: tuple[str, str], word: str):
    assert word in call.mistake("generate", "x", "--home", str(tiny.home), *options)


def test_too_long_a_prompt(call, tiny):
    assert "context" in call.mistake("generate", "term1 " * 200, "--home", str(tiny.home))


def test_a_flipped_bit_in_the_weights(call, tiny, tmp_path):
    import shutil

    from bloomery.core.workspace import Workspace

    model = Workspace(tiny.home).latest("model")
    copy = tmp_path / "model"
    shutil.copytree(model.path, copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    line = call.mistake("generate", "x", "--model", str(copy), "--home", str(tiny.home))
    assert "model.safetensors" in line and "damaged" in line


def test_alternatives_come_with_json(call, tiny):
    options = ("--home", str(tiny.home), "--quiet", "--max-new-tokens", "3", "--temperature", "0", "--logprobs", "2")
    result = json.loads(call("generate", "term1", *options, "--json").out)
    for token, logprob, entries in zip(result["token_ids"], result["logprobs"], result["top_logprobs"], strict=True):
        assert len(entries) == 2
        assert entries[0] == {"token_id": token, "logprob": pytest.approx(logprob)}  # greedy took the best
    assert "--json" in call.mistake("generate", "term1", *options)


def test_a_terminal_without_the_character(tiny):
    command = [sys.executable, "-m", "bloomery.cli.main", "generate", "term1", "--home", str(tiny.home), "--quiet"]
    command += ["--max-new-tokens", "30", "--seed", "1"]  # a model of four steps spells broken characters
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 2 and "PYTHONUTF8" in done.stderr and "Traceback" not in done.stderr


def test_images_for_models_that_see(call, tiny, tmp_path):
    pytest.importorskip("PIL")
    import PIL.Image

    from bloomery.tokenizer import Tokenizer, TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer
    from bloomery.training.building import NetConfig
    from bloomery.training.picture_building import build_seeing, processor
    from bloomery.training.publishing import save_model

    folder, picture = tmp_path / "seer", tmp_path / "red.png"
    folder.mkdir()
    write_tokenizer(learn(["a red square"] * 9, TokenizerConfig(vocab_size=400, images=True)), folder)
    net = NetConfig(hidden_size=32, num_hidden_layers=1, image_size=16, patch_size=8)
    save_model(build_seeing("captions", net, Tokenizer.load(folder), context_length=50), folder)
    processor(16).to_folder(folder)
    PIL.Image.new("RGB", (20, 30), "red").save(picture)
    options = ("--model", str(folder), "--image", str(picture), "--max-new-tokens", "3", "--home", str(tiny.home))
    data = json.loads(call("generate", "What?", *options, "--json").out)
    assert data["prompt_tokens"] > 4 and len(data["token_ids"]) <= 3
    assert call("generate", "What?", *options).code == 0
    said = call.mistake("generate", "x", "--image", str(picture), "--home", str(tiny.home))
    assert "reads text only" in said
    gone = ("--model", str(folder), "--image", str(tmp_path / "none.png"), "--home", str(tiny.home))
    assert "no such file" in call.mistake("generate", "x", *gone)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = ("--model", str(folder), "--image", str(tmp_path / "bad.png"), "--home", str(tiny.home))
    assert "cannot be read" in call.mistake("generate", "x", *bad)


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        (("--choice", "iron", "--choice", "ore"), {"iron", "ore"}),
        (("--regex", "[ab]"), {"a", "b"}),
        (("--grammar", 'start: "x" | "y"'), {"x", "y"}),
        (("--json-schema", '{"enum": [1, 2]}'), {"1", "2"}),
    ],
    ids=str,
)
def test_constraints(call, tiny, flags: tuple[str, ...], allowed: set[str]):
    for seed in ("1", "2"):
        answer = call("generate", "term1", "--home", str(tiny.home), "--quiet", "--seed", seed, *flags)
        assert answer.code == 0 and answer.out.rstrip("\n") in allowed


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--regex", "a(b"), "unclosed"),
        (("--json-schema", '{"not": {}}'), "'not'"),
        (("--json-schema", "{"), "JSON"),
        (("--json-schema", "missing.json"), "no such file"),
        (("--grammar", "start: nothing"), "unknown name"),
        (("--regex", "a", "--choice", "b"), "exclude"),
    ],
)
def test_mistaken_constraints(call, tiny, flags: tuple[str, ...], word: str):
    assert word in call.mistake("generate", "term1", "--home", str(tiny.home), *flags)
