"""What a constraint costs: decode steps of one model with and without one, alternating; prints the median ratio.

The model is random and small (about 15M parameters), so a step is short and the share of the mask is at its largest.
`mask` is the time of one mask alone, computed in line; in a generation it is computed beside the model's step. The free
text of the constraint leaves the choice of tokens as it is, so both sides make the same number of steps.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from bloomery.engine import LanguageModel
from bloomery.engine.constraint import constraint_for
from bloomery.models import Decoder, ModelConfig
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer

PAIRS = 5
TOKENS = 100
TEXT = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parents[1].glob("**/*.md"))[:60]]
CONSTRAINTS = {
    "text": {"regex": r"(.|\n)*"},
    "JSON": {"json_schema": {"type": "array", "items": {"type": "object"}, "minItems": 1000}},
}


def model(folder: str) -> LanguageModel:
    write_tokenizer(learn(TEXT, TokenizerConfig(vocab_size=8_000)), Path(folder))
    tokenizer = Tokenizer.load(folder)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=64,
        max_position_embeddings=1024,
    )
    torch.manual_seed(0)
    return LanguageModel(Decoder(config), tokenizer, name="random")


def seconds_per_token(loaded: LanguageModel, constraint: dict | None, seed: int) -> float:
    result = loaded.generate([5], max_new_tokens=TOKENS, seed=seed, constraint=constraint)
    return result.timings.decode_seconds / max(1, result.completion_tokens - 1)


def mask_seconds(loaded: LanguageModel, constraint: dict) -> float:
    """The median of one mask along a text, computed in line."""
    state, found = constraint_for(constraint, loaded.tokenizer, continues=True), []
    draw = torch.Generator().manual_seed(0)
    for _ in range(TOKENS):
        start = time.perf_counter()
        mask = state.allowed()
        found.append(time.perf_counter() - start)
        mask = mask.float()
        mask[list(loaded.tokenizer.eos_ids)] = 0
        if not mask.any():
            break
        state.advance(int(torch.multinomial(mask, 1, generator=draw)))
    return statistics.median(found)


def main() -> None:
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, torch {torch.__version__}, load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        loaded = model(folder)
        for name, constraint in CONSTRAINTS.items():
            seconds_per_token(loaded, constraint, 0)
            ratios = []
            for pair in range(PAIRS):
                order = (None, constraint) if pair % 2 == 0 else (constraint, None)
                times = {bool(one): seconds_per_token(loaded, one, pair) for one in order}
                ratios.append(times[True] / times[False])
            print(
                f"{name}: constrained / free, seconds a token: median {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f}); mask {mask_seconds(loaded, constraint) * 1e3:.3f} ms"
            )
        loaded.close()


if __name__ == "__main__":
    main()
