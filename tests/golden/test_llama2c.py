"""Real weights: stories260K of llama2.c, converted, loaded, and telling its story as it does elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bloomery.engine import load
from bloomery.tokenizer import Tokenizer

TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    'One day, a dog ran. "Stop!" said the cat.',
    "Größe, 日本 and 🙂 are not in 512 tokens",
    "  two spaces  ",
    "x",
]
# From BOS at temperature 0: what llama2.c's test_all.py expects of its run.c and of its sample.py, 200 steps.
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a"
    " big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\""
    " Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\n"
    "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
    "Lily didn't want to help her mom, so she"
)


@pytest.fixture(scope="module")
def llama2c() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llama2c", Path(__file__).with_name("llama2c.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(shared_data: Path, llama2c: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("stories260K")
    weights = shared_data / "weights"
    llama2c.convert_llama2c(weights / "stories260K.bin", weights / "tok512.bin", target)
    return target


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_llama2c(folder: Path, shared_data: Path, llama2c: ModuleType, text: str):
    from transformers import AutoTokenizer

    vocabulary = llama2c.read_vocabulary(shared_data / "weights" / "tok512.bin", 512)
    expected = llama2c.reference_encode(text, vocabulary)
    assert Tokenizer.load(folder).encode(text) == expected
    assert AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"] == expected


def test_tells_the_story_from_nothing(folder: Path):
    """Every token that run.c prints in 200 steps, and transformers the same."""
    from transformers import AutoModelForCausalLM

    model = load(folder)
    result = model.generate([1], max_new_tokens=200, temperature=0.0)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    text = theirs.generate(torch.tensor([[1]]), max_new_tokens=200, do_sample=False, pad_token_id=0)
    assert list(result.token_ids) == text[0, 1:].tolist()
    assert len(result.token_ids) == 200
    told = model.tokenizer.decode(result.token_ids).lstrip(" ")
    assert told.startswith(STORY)


def test_tells_the_story(folder: Path):
    from transformers import AutoModelForCausalLM

    model = load(folder)
    result = model.generate("Once upon a time", max_new_tokens=120, temperature=0.0)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = torch.tensor([model.encode_prompt("Once upon a time")])
    assert prompt[0, 0] == 1
    text = theirs.generate(prompt, max_new_tokens=120, do_sample=False, pad_token_id=0)
    assert list(result.token_ids) == text[0, prompt.size(1) :].tolist()
    assert len(result.text) > 200
    assert STORY.startswith("Once upon a time" + result.text)
    with torch.inference_mode():
        difference = (model.logits(prompt) - theirs(prompt).logits).abs().max()
    assert difference < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tells_the_story_from_a_gguf_file(folder: Path, dtype: str, tmp_path: Path):
    """Out and in again: SentencePiece's pieces and Llama's heads, which llama.cpp turns."""
    from bloomery.engine.gguf_file import export_gguf
    from bloomery.engine.gguf_import import read_model
    from bloomery.models import save_pretrained

    read = read_model(export_gguf(folder, tmp_path / "m.gguf", dtype=dtype))
    save_pretrained(read.decoder, tmp_path / "made")
    read.tokenizer.save(tmp_path / "made")
    model, tokenizer = load(tmp_path / "made"), Tokenizer.load(folder)
    for text in TEXTS:
        assert read.tokenizer.encode(text) == tokenizer.encode(text)
    result = model.generate([1], max_new_tokens=200, temperature=0.0)
    told = model.tokenizer.decode(result.token_ids).lstrip(" ")
    assert told.startswith(STORY if dtype == "float32" else STORY[:200])
