"""What lighter weights cost and save: a model beside itself in other weights, on the same text, in turn.

Loss in bits per byte and in the next token's distribution, bytes, speed and joules of reading and writing. This module
does not know how weights are made lighter.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bloomery.core.errors import DataError
from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, LanguageModel
from bloomery.evaluate.bits_per_byte import bits_per_byte
from bloomery.evaluate.choices import compare_choices
from bloomery.evaluate.tasks import Question
from bloomery.models.packing import packing_of


@dataclass(frozen=True, kw_only=True)
class LighterConfig:
    """How much is measured."""

    repeats: int = 3
    """Rounds of generation, the two models in turn."""
    prompt_tokens: int = 256
    """Of the prompt that is read; at most half the context."""
    new_tokens: int = 64
    """Written greedily after it."""
    compared_tokens: int = 4096
    """Positions at which next-token distributions are compared, at most."""


def compare_weights(
    before: LanguageModel,
    after: LanguageModel,
    texts: Sequence[str],
    *,
    config: LighterConfig | None = None,
    choices: Sequence[Question] = (),
) -> dict[str, Any]:
    """A report of plain data: `before` and `after` (bits_per_byte, file_bytes left to the caller, weight_bytes,
    prefill and decode tokens per second, joules per token), `top1_agreement` and `divergence_nats` between the two;
    with `choices` what `compare_choices` says of them.

    Medians over the rounds, with all of them beside (`*_runs`). The models have the same tokenizer. DataError if
    there is no text.
    """
    config = config or LighterConfig()
    if not any(texts):
        raise DataError("there is no text to measure on", hint="give a file with text")
    agreement, divergence, compared = _agreement(before, after, texts, config.compared_tokens)
    report: dict[str, Any] = {
        "top1_agreement": agreement,
        "divergence_nats": divergence,
        "compared_tokens": compared,
    }
    runs: dict[str, list[GenerationResult]] = {"before": [], "after": []}
    models = {"before": before, "after": after}
    ids = _prompt(before, texts, config)
    for round_ in range(config.repeats + 1):  # the first warms up
        prompt = ids[round_:] + ids[:round_]  # another one each time, for an engine may remember what it has read
        for name, model in models.items():
            result = model.generate(prompt, max_new_tokens=config.new_tokens, temperature=0.0, seed=0, ignore_eos=True)
            if round_:
                runs[name].append(result)
    for name, model in models.items():
        report[name] = {
            **asdict(bits_per_byte(model, texts)),
            "weight_bytes": weight_bytes(model.decoder),
            **_speeds(runs[name]),
        }
        packing = packing_of(model.decoder)
        report[name]["packing"] = None if packing is None else packing.to_dict()
    report["bits_per_byte_loss"] = report["after"]["bits_per_byte"] - report["before"]["bits_per_byte"]
    if choices:
        report["choices"] = compare_choices(before, after, choices)
    return report


def weight_bytes(model: nn.Module) -> int:
    """Bytes of memory that a model's weights take, packed ones included."""
    packing = packing_of(model)
    return sum(p.nbytes for p in model.parameters()) + (0 if packing is None else packing.bytes)


def file_bytes(folder: Path) -> int:
    """Bytes of a folder's weight files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _prompt(model: LanguageModel, texts: Sequence[str], config: LighterConfig) -> list[int]:
    length = max(1, min(config.prompt_tokens, model.context_length // 2))
    ids: list[int] = []
    for text in texts:
        ids += model.tokenizer.encode(text)
        if len(ids) >= length:
            break
    return ids[:length]


def _speeds(results: Sequence[GenerationResult]) -> dict[str, Any]:
    prefill = [r.prompt_tokens / r.timings.prefill_seconds for r in results if r.timings.prefill_seconds > 0]
    decode = [speed for r in results if (speed := r.timings.tokens_per_second) is not None]
    return {
        "prefill_tokens_per_second": _median(prefill),
        "prefill_tokens_per_second_runs": prefill,
        "decode_tokens_per_second": _median(decode),
        "decode_tokens_per_second_runs": decode,
        "prefill_joules_per_token": _each([(r.prefill_energy, r.prompt_tokens) for r in results]).to_dict(),
        "decode_joules_per_token": _each([(r.decode_energy, r.completion_tokens - 1) for r in results]).to_dict(),
    }


def _each(spent: Sequence[tuple[Quantity, int]]) -> Quantity:
    """Joules a token over all rounds; unknown if one of them is, or if there was no token."""
    tokens = sum(count for _, count in spent)
    if tokens <= 0:
        return Quantity.unknown()
    total = spent[0][0]
    for quantity, _ in spent[1:]:
        total = total + quantity
    return total.scaled(1 / tokens)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


@torch.inference_mode()
def _agreement(
    before: LanguageModel, after: LanguageModel, texts: Sequence[str], limit: int
) -> tuple[float, float, int]:
    """(share of positions with the same most probable token, mean KL(before || after) in nats, positions)."""
    agreed, nats, seen = 0, 0.0, 0
    for text in texts:
        ids = [before.tokenizer.separator_id, *before.tokenizer.encode(text)]
        for start in range(0, len(ids), before.context_length):
            window = ids[start : start + min(before.context_length, limit - seen)]
            if not window:
                return agreed / max(1, seen), max(0.0, nats / max(1, seen)), seen
            one, other = (F.log_softmax(model.logits(window)[0], dim=-1) for model in (before, after))
            agreed += int((one.argmax(-1) == other.argmax(-1)).sum())
            nats += float(F.kl_div(other, one, log_target=True, reduction="sum"))
            seen += len(window)
    return agreed / max(1, seen), max(0.0, nats / max(1, seen)), seen
