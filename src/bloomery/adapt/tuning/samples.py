"""Samples: what a model in training answers to held-out prompts, greedily. This module does not know training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from bloomery.adapt.tuning.config import AdaptConfig
from bloomery.adapt.tuning.material import Material
from bloomery.models import Decoder
from bloomery.models.cache import KVCache
from bloomery.training.objective import evaluating


def answers(material: Material, config: AdaptConfig) -> list[dict[str, Any]]:
    """The prompts of a material with the model's answers as it is now, as JSON."""
    model, tokenizer = material.objective.model, material.tokenizer
    if not isinstance(model, Decoder):
        return []
    ends = {*tokenizer.eos_ids, tokenizer.end_id, *model.config.eos_token_id}
    made = []
    with evaluating(model):
        for ids, expected in material.prompts:
            answer = greedy(model, ids, max_new_tokens=config.sample_tokens, ends=ends)
            prompt = tokenizer.decode(ids, skip_special=False)
            made.append({"prompt": prompt, "expected": expected, "answer": tokenizer.decode(answer)})
    return made


def greedy(decoder: Decoder, ids: Sequence[int], *, max_new_tokens: int, ends: Collection[int]) -> list[int]:
    """The most probable continuation, up to and without an end token. No more than the model's context."""
    weight = decoder.model.embed_tokens.weight
    room = min(max_new_tokens, decoder.context_length - len(ids))
    cache = KVCache(decoder.config, 1, len(ids) + max(0, room), dtype=weight.dtype, device=weight.device)
    found: list[int] = []
    step = torch.tensor([list(ids)], device=weight.device)
    while len(found) < room:
        best = int(decoder(step, cache=cache, last_only=True)[0, -1].argmax())
        if best in ends:
            break
        found.append(best)
        step = torch.tensor([[best]], device=weight.device)
    return found
