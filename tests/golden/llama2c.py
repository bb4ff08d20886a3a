"""Converts a model of llama2.c (weights and tokenizer) to a Hugging Face folder, for tests with real weights.

Format: github.com/karpathy/llama2.c, legacy export (version 0) and `tok512.bin`. llama2.c rotates neighbouring pairs of
a head, Hugging Face its halves against each other, so the rows of q_proj and k_proj are put in the latter's order.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers


def convert_llama2c(weights: Path, tokenizer: Path, folder: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = weights.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack("<7i", data[:28])
    shared, vocab = vocab > 0, abs(vocab)
    numbers, at = np.frombuffer(data, dtype="<f4", offset=28), 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return torch.from_numpy(numbers[at - size : at].reshape(shape).copy())

    head = dim // heads
    kv_dim = kv_heads * head
    tensors = {"model.embed_tokens.weight": take(vocab, dim)}
    stacks = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": take(layers, dim, dim),
        "self_attn.k_proj": take(layers, kv_dim, dim),
        "self_attn.v_proj": take(layers, kv_dim, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    tensors["model.norm.weight"] = take(dim)
    take(length, head // 2)  # tables of cos and sin, which follow from the config
    take(length, head // 2)
    if not shared:
        tensors["lm_head.weight"] = take(vocab, dim)
    assert at == len(numbers), "the file is longer than its header says"
    for name, stack in stacks.items():
        for layer in range(layers):
            tensor = stack[layer]
            if name.endswith(("q_proj", "k_proj")):
                tensor = _halves(tensor, head)
            tensors[f"model.layers.{layer}.{name}.weight"] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": length,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": shared,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(read_vocabulary(tokenizer, vocab), folder)


def _halves(weight: torch.Tensor, head: int) -> torch.Tensor:
    """Rows (H * D, E) from pairs (0, 1), (2, 3), ... to halves (0, D/2), (1, D/2 + 1), ..."""
    rows, columns = weight.shape
    return weight.view(rows // head, head // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def read_vocabulary(path: Path, size: int) -> list[tuple[bytes, float]]:
    """Each token's bytes and score, in the order of ids."""
    data, at, tokens = path.read_bytes(), 4, []
    for _ in range(size):
        score, length = struct.unpack_from("<fi", data, at)
        tokens.append((data[at + 8 : at + 8 + length], score))
        at += 8 + length
    return tokens


def reference_encode(text: str, vocabulary: list[tuple[bytes, float]]) -> list[int]:
    """llama2.c's `encode` without BOS and EOS: characters, else bytes, then the best-scored pair until none is left."""
    ids = {token: i for i, (token, _) in reversed(list(enumerate(vocabulary)))}
    if not text:
        return []
    tokens = [ids[b" "]]  # sentencepiece's dummy prefix
    for character in text:
        encoded = character.encode()
        tokens += [ids[encoded]] if encoded in ids else [byte + 3 for byte in encoded]
    while True:
        best, where = -1e10, -1
        for i in range(len(tokens) - 1):
            merged = ids.get(vocabulary[tokens[i]][0] + vocabulary[tokens[i + 1]][0])
            if merged is not None and vocabulary[merged][1] > best:
                best, where = vocabulary[merged][1], i
        if where < 0:
            return tokens
        tokens[where : where + 2] = [ids[vocabulary[tokens[where]][0] + vocabulary[tokens[where + 1]][0]]]


def _write_tokenizer(vocabulary: list[tuple[bytes, float]], folder: Path) -> None:
    names: dict[str, int] = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for i in range(3, 259):
        names[f"<0x{i - 3:02X}>"] = i
    pieces = {i: vocabulary[i][0].decode().replace(" ", "\u2581") for i in range(259, len(vocabulary))}
    names.update({piece: i for i, piece in pieces.items()})
    merges = []
    for i, piece in pieces.items():
        cuts = [(piece[:n], piece[n:]) for n in range(1, len(piece)) if {piece[:n], piece[n:]} <= names.keys()]
        merges += [(vocabulary[i][1], names[a], (a, b)) for a, b in cuts]
    merges.sort(key=lambda m: -m[0])
    model = models.BPE(names, [pair for _, _, pair in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
