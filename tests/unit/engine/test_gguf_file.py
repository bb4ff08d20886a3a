"""GGUF files: transformers reads them back to the same logits; what llama.cpp could not read is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.engine.gguf_file import export_gguf
from bloomery.models import Decoder, ModelConfig, load_pretrained, save_pretrained
from bloomery.tokenizer import Tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rope_theta": 5e4,
    "sliding_window": None,
}


def _folder(source: Path, target: Path, family: str, **changes: Any) -> Path:
    """A random model of a family with the tiny model's tokenizer."""
    target.mkdir()
    tokenizer = Tokenizer.load(source)
    tokenizer.save(target)
    sizes = {key: value for key, value in SIZES.items() if key != "sliding_window" or family == "mistral"}
    # transformers does not read a GGUF's head size for Qwen3, and takes 128.
    head_dim = 128 if family == "qwen3" else 8
    config = ModelConfig.from_hf(
        {"model_type": family, **sizes, "head_dim": head_dim, "vocab_size": tokenizer.vocab_size, **changes}
    )
    torch.manual_seed(0)
    decoder = Decoder(config)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_pretrained(decoder, target)
    return target


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_it(family: str, tied: bool, tiny_folder: Path, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    folder = _folder(tiny_folder, tmp_path / "model", family, tie_word_embeddings=tied)
    path = export_gguf(folder, tmp_path / "model.gguf")
    assert [p.name for p in tmp_path.glob("*.gguf")] == ["model.gguf"] and not list(tmp_path.glob(".*"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).eval()
    ids = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (theirs(ids).logits - load_pretrained(folder)(ids)).abs().max() < 1e-4


def test_metadata(tiny_folder: Path, tmp_path: Path):
    from gguf import GGUFReader, TokenType

    reader = GGUFReader(export_gguf(tiny_folder, tmp_path / "m.gguf", dtype="float16"))

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    tokenizer = Tokenizer.load(tiny_folder)
    assert value("general.architecture") == "qwen3" and value("tokenizer.ggml.pre") == "llama-bpe"
    assert value("tokenizer.ggml.bos_token_id") == tokenizer.bos_id
    tokens, types = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    assert len(tokens) == tokenizer.vocab_size == len(types)
    control = {index for index, kind in enumerate(types) if kind == TokenType.CONTROL}
    assert control == tokenizer.special_ids
    merges = json.loads((tiny_folder / "tokenizer.json").read_text())["model"]["merges"]
    assert value("tokenizer.ggml.merges") == [m if isinstance(m, str) else " ".join(m) for m in merges]
    assert value("tokenizer.chat_template") == (tokenizer.chat_template and tokenizer.chat_template.source)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["token_embd.weight"] == "F16" and kinds["output_norm.weight"] == "F32"


def test_bfloat16_is_kept_bit_by_bit(tiny_folder: Path, tmp_path: Path):
    from gguf import GGUFReader

    reader = GGUFReader(export_gguf(tiny_folder, tmp_path / "m.gguf", dtype="bfloat16"))
    tensor = next(t for t in reader.tensors if t.name == "token_embd.weight")
    assert tensor.tensor_type.name == "BF16"
    expected = load_pretrained(tiny_folder, dtype=torch.bfloat16).model.embed_tokens.weight
    assert np.array_equal(tensor.data, expected.contiguous().view(torch.uint8).numpy())


def test_what_llama_cpp_could_not_read(tiny_folder: Path, tmp_path: Path):
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("olmo2", {}, "olmo2"),
        ("mistral", {"sliding_window": 8}, "window"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ("llama", {"hidden_act": "gelu"}, "gelu"),
    ]
    for number, (family, changes, word) in enumerate(cases):
        folder = _folder(tiny_folder, tmp_path / str(number), family, **changes)
        with pytest.raises(ConfigError, match=word):
            export_gguf(folder, tmp_path / "m.gguf")
    folder = tmp_path / "pattern"
    shutil.copytree(tiny_folder, folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+|\S+"
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match="split pattern"):
        export_gguf(folder, tmp_path / "m.gguf")
    assert not list(tmp_path.glob("*.gguf")) and not list(tmp_path.glob(".*"))


def test_places(tiny_folder: Path, tmp_path: Path):
    (tmp_path / "m.gguf").write_bytes(b"precious")
    with pytest.raises(DataError, match="already"):
        export_gguf(tiny_folder, tmp_path / "m.gguf")
    with pytest.raises(DataError, match="no folder"):
        export_gguf(tiny_folder, tmp_path / "a" / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == b"precious"
