"""GGUF out: a decoder and its tokenizer in one file for llama.cpp, written by ggml's own `gguf` library.

For the families whose tensors llama.cpp computes as they are here (Llama, Mistral, Qwen2, Qwen3) and byte-level BPE
tokenizers whose split pattern llama.cpp has a name for; all others are errors. Matrices are float32, float16 or
bfloat16, norms and biases float32, as its converter writes them. This module does not quantise, and reads no GGUF.
Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.artifact import Artifact, fsync
from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.core.workspace import Workspace
from bloomery.engine.loading import as_dtype, find_model
from bloomery.models import Decoder, ModelConfig, load_pretrained
from bloomery.tokenizer import Tokenizer

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_FILE_TYPES = {torch.float32: "ALL_F32", torch.float16: "MOSTLY_F16", torch.bfloat16: "MOSTLY_BF16"}
# What llama.cpp calls the split patterns of byte-level BPE, by the number of digits that stay together.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    _CONTRACTIONS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _CONTRACTIONS + r"\p{N}{1,1}" + _REST: "qwen2",
    _CONTRACTIONS + r"\p{N}" + _REST: "qwen2",
}


def export_gguf(
    reference: str | Path | Artifact,
    path: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
) -> Path:
    """Write one GGUF file; it appears whole or not at all. `dtype` None keeps the checkpoint's.

    Raises ConfigError for a family, rotary scaling or tokenizer that is not supported, DataError if the file is there
    already, MissingExtraError without the `gguf` library.
    """
    target, kind = Path(path).expanduser().absolute(), as_dtype(dtype)
    gguf = _library()
    source, name = find_model(reference, workspace)
    if target.exists():
        raise DataError(f"{target} is there already", hint="give another name")
    if not target.parent.is_dir():
        raise DataError(f"{target.parent} is no folder", hint="make it first")
    decoder, tokenizer = load_pretrained(source, dtype=kind), Tokenizer.load(source)
    architecture = _architecture(decoder.config)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(partial, architecture)
    try:
        writer.add_name(name)
        writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[decoder.output_weight.dtype]))
        _write_sizes(gguf, writer, decoder.config, tokenizer)
        _write_tokenizer(gguf, writer, tokenizer, decoder.config)
        names = _name_map(gguf, architecture, decoder.config)
        for theirs, tensor in _tensors(decoder, architecture):
            _add(gguf, writer, names.get_name(theirs, try_suffixes=(".weight", ".bias")), tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        fsync(partial)
        partial.replace(target)
        fsync(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "writing GGUF files") from None
    return gguf


def _architecture(config: ModelConfig) -> str:
    """llama.cpp's name of what the config describes; ConfigError if there is none."""
    config.check_published()
    known = _ARCHITECTURES.get(config.model_type)
    if known is None:
        raise ConfigError(
            f"GGUF is not written for {config.model_type}",
            hint=f"known: {', '.join(_ARCHITECTURES)}; export a folder and use llama.cpp's own converter",
        )
    if config.layer_types:
        raise ConfigError("GGUF is not written for sliding windows", hint="export a folder instead")
    if config.rope_scaling is not None and config.rope_scaling.rope_type != "linear":
        raise ConfigError(
            f"GGUF is not written for rope scaling {config.rope_scaling.rope_type}", hint="export a folder instead"
        )
    if config.hidden_act not in ("silu", "swish"):
        raise ConfigError(f"GGUF is not written for hidden_act {config.hidden_act}", hint="export a folder instead")
    return known


def _name_map(gguf: Any, architecture: str, config: ModelConfig) -> Any:
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(number, config.num_hidden_layers)


def _write_sizes(gguf: Any, writer: Any, config: ModelConfig, tokenizer: Tokenizer) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    if config.rope_scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_scaling.factor or 1.0)


def _write_tokenizer(gguf: Any, writer: Any, tokenizer: Tokenizer, config: ModelConfig) -> None:
    described = tokenizer.description
    model = described.get("model", {})
    split = _split_name(described)
    added = {token["id"]: token for token in described.get("added_tokens", [])}
    texts = {index: text for text, index in model.get("vocab", {}).items()}
    texts |= {index: token["content"] for index, token in added.items()}
    tokens, types = [], []
    for index in range(config.vocab_size):
        token = added.get(index)
        # Rows beyond the vocabulary are padding of the matrix: nothing may ever spell them.
        tokens.append(texts.get(index, f"[PAD{index}]"))
        if index not in texts:
            types.append(gguf.TokenType.UNUSED)
        elif token is None:
            types.append(gguf.TokenType.NORMAL)
        else:
            types.append(gguf.TokenType.CONTROL if token.get("special") else gguf.TokenType.USER_DEFINED)
    if len(set(tokens)) != len(tokens):
        raise DataError(f"{tokenizer.source}: two ids have the same text")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", [])]
    if merges:
        writer.add_token_merges(merges)
    if tokenizer.bos_id is not None:
        writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_add_bos_token(tokenizer.adds_bos)
    writer.add_add_eos_token(False)
    if config.eos_token_id:
        writer.add_eos_token_id(config.eos_token_id[0])
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template.source)


def _split_name(described: Mapping[str, Any]) -> str:
    """llama.cpp's name of a byte-level BPE's split pattern; ConfigError if it has none."""
    kind = described.get("model", {}).get("type")
    if kind != "BPE" or described.get("model", {}).get("byte_fallback"):
        raise ConfigError(f"GGUF is not written for {kind} tokenizers with byte fallback or without byte-level BPE")
    outer = described.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    patterns = [step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"]
    if not patterns and any(step.get("type") == "ByteLevel" and step.get("use_regex", True) for step in steps):
        return "gpt-2"
    if len(patterns) == 1 and patterns[0] in _SPLITS:
        return _SPLITS[patterns[0]]
    raise ConfigError("llama.cpp has no name for this tokenizer's split pattern", hint="export a folder instead")


def _tensors(decoder: Decoder, architecture: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters under Hugging Face's names; llama.cpp rotates neighbouring pairs in Llama's queries and keys."""
    config = decoder.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in decoder.named_parameters():
        tensor = parameter.detach()
        count = next((heads[part] for part in heads if f".{part}." in name), None)
        if architecture == "llama" and count is not None:
            tensor = tensor.unflatten(0, (count, 2, config.head_dim // 2)).transpose(1, 2).flatten(0, 2)
        yield name, tensor


def _add(gguf: Any, writer: Any, name: str | None, tensor: Tensor) -> None:
    if name is None:
        raise ConfigError("the gguf library has no name for one of the tensors", hint="pip install -U gguf")
    if tensor.ndim == 1 or tensor.dtype == torch.float32:
        writer.add_tensor(name, tensor.float().numpy())
    elif tensor.dtype == torch.bfloat16:
        data = tensor.contiguous().view(torch.uint8).numpy()
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, tensor.numpy().astype(np.float16, copy=False))
