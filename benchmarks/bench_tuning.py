"""What a training step of an adapter costs against PEFT on transformers: ratios of seconds, and tensors held.

The same random model, adapter, and batches of conversations of different lengths, forward, backward and AdamW; both
sides are taken in turn, several times; it prints the median with the smallest and the largest. Below 1 ours is faster.
PEFT is given what its users give it, a padded batch and an attention mask; ours has no padding.

    python benchmarks/bench_tuning.py            # needs peft and transformers
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.adapt.tuning.adapter_files import load_adapter
from bloomery.adapt.tuning.sft import batch_of, sft_loss
from bloomery.adapt.tuning.sft_tokens import Row, TokenizedExample
from bloomery.models import load_pretrained

TURNS, ROWS = 5, 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {"vocab_size": 8192, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024}
LENGTHS = {"60 to 64 tokens": (60, 64), "20 to 200 tokens": (20, 200), "30 to 300 tokens": (30, 300)}


def examples(low: int, high: int, seed: int) -> list[TokenizedExample]:
    """Random ids, the second half of which is learnt."""
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(low, high + 1, ROWS).tolist():
        ids = tuple(rng.integers(3, SIZES["vocab_size"], length).tolist())
        made.append(TokenizedExample(ids, tuple(place >= length // 2 for place in range(length))))
    return made


def padded(batch: list[TokenizedExample]) -> dict[str, torch.Tensor]:
    """What transformers reads."""
    width = max(len(one.ids) for one in batch)
    ids, mask, labels = (np.full((len(batch), width), value) for value in (0, 0, -100))
    for row, one in enumerate(batch):
        length = len(one.ids)
        ids[row, :length], mask[row, :length] = one.ids, 1
        labels[row, :length] = np.where(one.learnt, one.ids, -100)
    named = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.from_numpy(array).to(DEVICE) for name, array in named.items()}


def sides(folder: Path) -> tuple[Callable[[list[TokenizedExample]], float], Callable[[list[TokenizedExample]], float]]:
    """A step of PEFT's and one of ours, from the same weights and adapter; each returns its loss."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    plain = LlamaForCausalLM(LlamaConfig(**SIZES))
    plain.save_pretrained(folder / "base")
    tuned: Any = get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16))
    tuned.save_pretrained(folder / "adapter")
    tuned.to(DEVICE).train()
    decoder = load_pretrained(folder / "base", dtype=torch.float32)
    load_adapter(decoder, folder / "adapter")
    decoder.to(DEVICE).train()
    optimizers = [
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3) for model in (tuned, decoder)
    ]

    def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def theirs(batch: list[TokenizedExample]) -> float:
        return step(tuned(**padded(batch)).loss, optimizers[0])

    def ours(batch: list[TokenizedExample]) -> float:
        arrays = batch_of([Row((one,)) for one in batch])
        total = sft_loss(decoder, **{name: torch.from_numpy(array).to(DEVICE) for name, array in arrays.items()})
        return step(total / sum(one.num_learnt for one in batch), optimizers[1])

    return theirs, ours


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"{platform.processor() or platform.machine()}, {DEVICE}, {torch.get_num_threads()} threads, torch", end=" ")
    print(torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = sides(Path(folder))
        for name, (low, high) in LENGTHS.items():
            found = []
            for turn in range(TURNS + 1):
                batch, spent = examples(low, high, turn), {}
                losses = {}
                for side in (theirs, ours) if turn % 2 else (ours, theirs):
                    started = time.perf_counter()
                    losses[side] = side(batch)
                    spent[side] = time.perf_counter() - started
                if turn:  # the first does not count
                    found.append(spent[ours] / spent[theirs])
                assert abs(losses[ours] - losses[theirs]) < 1e-3, losses
            middle, least, most = statistics.median(found), min(found), max(found)
            print(f"ours / PEFT, {ROWS} texts of {name:20} {middle:5.2f} ({least:.2f} to {most:.2f})", flush=True)


if __name__ == "__main__":
    main()
