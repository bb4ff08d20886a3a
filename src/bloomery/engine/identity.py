"""Identity: what tells a language model in memory apart from every other, whatever it is called.

This module does not know files or artifacts.
"""

from __future__ import annotations

import hashlib

import torch

from bloomery.core.config import digest
from bloomery.engine.language_model import LanguageModel
from bloomery.models.packing import packing_of

_PROBE_TOKENS = 32


def identity_of(model: LanguageModel) -> str:
    """`NAME#DIGEST` over weights, config, tokenizer, adapter, and the kind of device that computes; a second a
    gigabyte."""
    found = hashlib.blake2b(repr(model.config).encode("utf-8", "surrogatepass"), digest_size=16)
    for name, tensor in sorted(model.decoder.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    tokenizer = model.tokenizer
    # The same tokens may be cut otherwise: merges, normaliser and what begins and ends a text count.
    ends = [tokenizer.bos_id, sorted(tokenizer.eos_ids), tokenizer.adds_bos]
    found.update(digest([tokenizer.description, ends]).encode())
    template = tokenizer.chat_template
    found.update((template.source if template is not None else "").encode())
    kept = str(model.engine.runner.memory.keys[0].dtype)
    found.update(f"{model.device.type} {kept} {model.adapter and model.adapter.digest}".encode())
    if packing_of(model.decoder) is not None:  # packed weights are none of the parameters: what they compute is seen
        ids = list(range(min(_PROBE_TOKENS, model.context_length, model.config.vocab_size)))
        found.update(model.logits(ids).numpy().tobytes())
    return f"{model.name}#{found.hexdigest()}"
