"""GGUF in: what was written comes back to the bit, and what others read of the same file is what is read here.

Files that llama.cpp itself quantised are tested in tests/golden/test_llama_cpp.py.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.core.workspace import Workspace
from bloomery.engine import load
from bloomery.engine.exchange import import_model
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.gguf_import import read_model
from bloomery.engine.gguf_reader import read_gguf
from bloomery.models import load_pretrained
from bloomery.models.pretrained import save_pretrained
from bloomery.tokenizer import Tokenizer

models = runpy.run_path(str(Path(__file__).parents[2] / "gguf_models.py"))
CASES: dict[str, tuple[str, dict[str, Any]]] = models["CASES"]
random_model, rewritten = models["random_model"], models["rewritten"]
IDS = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))
# What llama.cpp computes by the same architecture comes back as the first of its families, and ids are the tokenizer's.
_MAY_DIFFER = {"bos_token_id", "eos_token_id", "pad_token_id"}
READ_BY_TRANSFORMERS = ("llama", "llama tied, biases", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2", "bloom")


def _quiet(sentence: str) -> None:
    pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case: str, dtype: torch.dtype, tiny_folder: Path, tmp_path: Path):
    family, changes = CASES[case]
    folder = random_model(tmp_path / "model", family, tokenizer=tiny_folder, **changes)
    read = read_model(export_gguf(folder, tmp_path / "m.gguf", dtype=dtype, note=_quiet))
    source = load_pretrained(folder, dtype=dtype)
    ours, theirs = (dict(model.named_parameters()) for model in (read.decoder, source))
    assert ours.keys() == theirs.keys()
    for name, parameter in theirs.items():
        assert ours[name].dtype == dtype and not ours[name].requires_grad
        if "gemma" in case and name.endswith("norm.weight"):  # the file holds it with one added, in float32
            assert torch.allclose(ours[name], parameter, rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=1e-7)
        else:
            assert torch.equal(ours[name], parameter), name
    with torch.inference_mode():
        assert torch.allclose(read.decoder.float()(IDS), source.float()(IDS), atol=1e-5)
    if family != "mistral" and case != "llama 3 rope":
        ours, theirs = (model.config.to_hf() for model in (read.decoder, source))
        assert {k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k)} <= _MAY_DIFFER
    tokenizer = Tokenizer.load(folder)
    for text in ("Once upon 1234 don't  <|im_end|>\n\nglüht 火🔥", " a"):
        assert read.tokenizer.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, kind) for case in READ_BY_TRANSFORMERS for kind in ("", "Q8_0", "Q4_0") if not kind or case != "gpt2"],
)  # 48 inputs are no whole blocks
def test_transformers_reads_the_same(case: str, kind: str, tiny_folder: Path, tmp_path: Path):
    """Its own reader, its own classes, the same file; it passes over most keys, so that it is given the config."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family, changes = CASES[case]
    folder = random_model(tmp_path / "model", family, tokenizer=tiny_folder, **changes)
    path = export_gguf(folder, tmp_path / "plain.gguf", note=_quiet)
    path = rewritten(path, tmp_path / "model.gguf", kind)
    read = read_model(path, dtype=torch.float32)
    save_pretrained(read.decoder, tmp_path / "made")
    config = AutoConfig.from_pretrained(tmp_path / "made")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32, config=config)
    with torch.inference_mode():
        assert (theirs.eval()(IDS).logits - read.decoder(IDS)).abs().max() < 1e-4
    assert any(f"({kind}; " in sentence for sentence in read.notes) == bool(kind)


def test_quantised_weights_are_the_numbers_that_they_stand_for(tiny_folder: Path, tmp_path: Path, workspace: Workspace):
    """Q5_1 of a Llama, whose queries are turned as well; float16 unless it is said otherwise."""
    folder = random_model(tmp_path / "model", "llama", tokenizer=tiny_folder)
    path = rewritten(export_gguf(folder, tmp_path / "plain.gguf"), tmp_path / "m.gguf", "Q5_1")
    made = import_model(path, workspace=workspace)
    assert made.kind == "model" and made.metrics["dtype"] == "float16" and made.metrics["source"] == "m.gguf"
    assert made.metrics["model_type"] == "llama" and made.metrics["context_length"] == 256
    decoder = load_pretrained(made.path)
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name == "blk.1.ffn_down.weight":
            numbers = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
            assert torch.equal(decoder.get_parameter("model.layers.1.mlp.down_proj.weight"), numbers.half())
    exact = read_model(path, dtype=torch.float32).decoder
    for name, parameter in exact.named_parameters():
        assert torch.equal(decoder.get_parameter(name), parameter.half())
    ours = load(made, workspace=workspace)
    assert ours.generate("the furnace", max_new_tokens=4, temperature=0.0).token_ids
    ours.close()
    assert import_model(path, workspace=workspace).id == made.id
    assert import_model(path, workspace=workspace, dtype="float32").metrics["dtype"] == "float32"


def test_the_artifact_has_the_template_and_the_ends(tiny_folder: Path, tmp_path: Path, workspace: Workspace):
    path = export_gguf(tiny_folder, tmp_path / "m.gguf")
    path = rewritten(path, tmp_path / "n.gguf", tokenizer__ggml__eot_token_id=2)
    made, source = Tokenizer.load(import_model(path, workspace=workspace).path), Tokenizer.load(tiny_folder)
    assert made.chat_template is not None and source.chat_template is not None
    assert made.chat_template.source == source.chat_template.source
    assert set(made.eos_ids) == {source.eos_ids[0], 2} and made.bos_id == source.bos_id
    messages = [{"role": "user", "content": "hello"}]
    assert made.encode_chat(messages) == source.encode_chat(messages)


def test_a_head_that_is_the_embedding(tiny_folder: Path, tmp_path: Path):
    """Written twice, as some converters do it: the same bytes are one matrix."""
    folder = random_model(tmp_path / "model", "olmo2", tokenizer=tiny_folder, tie_word_embeddings=True)
    path = export_gguf(folder, tmp_path / "m.gguf")
    assert "output.weight" in read_gguf(path).tensors and read_model(path).decoder.lm_head is None
    folder = random_model(tmp_path / "other", "llama", tokenizer=tiny_folder)
    path = export_gguf(folder, tmp_path / "n.gguf")
    assert read_model(path).decoder.lm_head is not None
    assert read_model(rewritten(path, tmp_path / "o.gguf", leave=("output.weight",))).decoder.lm_head is None


def test_llama_3s_scaling_as_it_is_published(tiny_folder: Path, tmp_path: Path):
    """Llama 3.1's and 3.2's, for heads of 64 and of 128: found again from the factors alone."""
    for factor, head_dim in ((8.0, 128), (32.0, 64)):
        scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        scaling |= {"original_max_position_embeddings": 8192}
        changes = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": head_dim, "hidden_size": 32}
        changes |= {"rope_theta": 5e5, "num_hidden_layers": 1, "max_position_embeddings": 131072}
        name = f"model{head_dim}"
        folder = random_model(tmp_path / name, "llama", tokenizer=tiny_folder, **changes, rope_scaling=scaling)
        read = read_model(export_gguf(folder, tmp_path / f"{name}.gguf"))
        assert read.decoder.config.rope_scaling == load_pretrained(folder).config.rope_scaling


def test_windows(tiny_folder: Path, tmp_path: Path):
    """Phi-3's layers all slide; which of Qwen's do is not in the file; Gemma's may be told by how many go together."""
    cases: list[tuple[str, int, tuple[str, ...], int]] = [
        ("phi3", 32, ("sliding_attention",) * 4, 256),
        ("qwen2", 32, (), 32),
        ("qwen2", 512, (), 256),
        ("gemma2", 8, ("sliding_attention", "sliding_attention", "full_attention", "sliding_attention"), 256),
    ]
    for number, (case, window, kinds, context) in enumerate(cases):
        family, changes = CASES[case]
        folder = random_model(tmp_path / str(number), family, tokenizer=tiny_folder, **changes)
        path = export_gguf(folder, tmp_path / f"{number}.gguf", note=_quiet)
        pattern = {"ARCH__attention__sliding_window_pattern": 3} if case == "gemma2" else {}
        path = rewritten(path, tmp_path / f"{number}w.gguf", ARCH__attention__sliding_window=window, **pattern)
        read = read_model(path)
        config = read.decoder.config
        assert (config.layer_types, config.max_position_embeddings) == (kinds, context)
        assert config.sliding_window == (window if kinds else None)
        assert any("cut to that" in sentence for sentence in read.notes) == (context < 256)
    path = rewritten(path, tmp_path / "none.gguf", leave=("gemma2.attention.sliding_window",))
    with pytest.raises(ConfigError, match="how far its layers see"):
        read_model(path)


@pytest.fixture(scope="module")
def llama_file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    model = random_model(folder / "model", "llama", tokenizer=tiny_folder, num_hidden_layers=2)
    return export_gguf(model, folder / "m.gguf", dtype="float16")


REFUSED: dict[str, tuple[dict[str, Any], type[BloomeryError], str]] = {
    "another architecture": ({"general__architecture": "mamba"}, ConfigError, "architecture 'mamba' is not read"),
    "an adapter": ({"general__type": "adapter"}, ConfigError, "type is 'adapter'"),
    "an unknown key": ({"ARCH__attention__scale": 0.5}, ConfigError, "attention.scale = 0.5"),
    "yet another rope": ({"ARCH__rope__scaling__type": "longrope"}, ConfigError, "rope scaling 'longrope'"),
    "a list for one": ({"ARCH__rope__scaling__attn_factor": [1.0, 1.0]}, ConfigError, "attn_factor = "),
    "an attention factor": ({"ARCH__rope__scaling__attn_factor": 1.5}, ConfigError, "attn_factor = 1.5"),
    "half rotated": ({"ARCH__rope__dimension_count": 4}, ConfigError, "4 are rotated"),
    "other values": ({"ARCH__attention__value_length": 16}, ConfigError, "another width"),
    "more layers": ({"ARCH__block_count": 3}, DataError, "3 layers, but not all"),
    "a thousand million layers": ({"ARCH__block_count": 10**9}, DataError, "1,000,000,000 layers"),
    "fewer layers": ({"ARCH__block_count": 1}, ConfigError, "tensors that llama does not have"),
    "another width": ({"ARCH__embedding_length": 64}, DataError, "has shape"),
    "no heads": ({"ARCH__attention__head_count": 0}, DataError, "0 heads"),
    "an odd head": (
        {f"ARCH__{key}": 7 for key in ("attention__key_length", "attention__value_length", "rope__dimension_count")},
        DataError,
        "describes no model",
    ),
    "a text for a number": ({"ARCH__attention__head_count": "four"}, DataError, "whole number"),
    "experts that are not there": ({"ARCH__expert_count": 100000}, DataError, "100,000 experts in each"),
    "a few experts that are not there": ({"ARCH__expert_count": 4}, DataError, "experts, but not all"),
    "no embedding": ({"leave": ("token_embd.weight",)}, DataError, "no tensor token_embd"),
    "no norm": ({"leave": ("blk.1.ffn_norm.weight",)}, DataError, "blk.1.ffn_norm.weight is missing"),
    "no context": ({"leave": ("llama.context_length",)}, DataError, "context_length should be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read(case: str, llama_file: Path, tmp_path: Path):
    values, error, word = REFUSED[case]
    path = rewritten(llama_file, tmp_path / "m.gguf", **values)
    with pytest.raises(error, match=word) as caught:
        read_model(path)
    assert caught.value.hint and "\n" not in caught.value.one_line()


def test_bytes_that_are_others(llama_file: Path, tmp_path: Path):
    """Whatever is changed of the header, a model comes out or one clear line."""
    data = llama_file.read_bytes()
    rng = np.random.default_rng(0)
    header = len(data) - sum(tensor.data.nbytes for tensor in read_gguf(llama_file).tensors.values())
    read = 0
    for _ in range(150):
        made = bytearray(data)
        for place in rng.integers(4, header, rng.integers(1, 5)):
            made[place] = rng.integers(0, 256)
        (tmp_path / "m.gguf").write_bytes(made)
        try:
            read_model(tmp_path / "m.gguf")
            read += 1
        except BloomeryError as caught:
            assert "\n" not in caught.one_line()
    assert 0 < read < 150


def test_hints_where_a_model_is_asked_for(llama_file: Path, workspace: Workspace):
    with pytest.raises(DataError, match="file of llama") as caught:
        load(llama_file)
    assert f"bloomery import {llama_file}" in caught.value.hint
    with pytest.raises(DataError, match=r"no config\.json") as caught:
        load(llama_file.parent)
    assert f"bloomery import {llama_file}" in caught.value.hint
    with pytest.raises(DataError, match="no file"):
        import_model("nowhere/m.gguf", workspace=workspace)
