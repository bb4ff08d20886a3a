"""What a training step of an adapter costs against PEFT on transformers: ratios of seconds, by each way of attention.

The same random model, adapter, and batches of conversations of different lengths, forward, backward and AdamW; all
sides are taken in turn, several times; it prints the median with the smallest and the largest. Below 1 ours is faster.
PEFT is given what its users give it, a padded batch and an attention mask; ours has no padding. Texts of a row are
computed each by itself, side by side, or by varlen (see `models.attention.BACKENDS`); "sdpa" is what training takes.
On a GPU there are bfloat16 and a larger model, too.

    python benchmarks/bench_tuning.py            # needs peft and transformers; a minute on a GPU
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.adapt.tuning.adapter_files import load_adapter
from bloomery.adapt.tuning.sft import batch_of, sft_loss
from bloomery.adapt.tuning.sft_tokens import Row, TokenizedExample
from bloomery.models import load_pretrained
from bloomery.models.attention import use_backend
from bloomery.training.objective import precision_context

TURNS, ROWS, VOCABULARY = 7, 8, 8192
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
MODELS = {"4 layers x 256": (4, 256, 4), "12 layers x 1024": (12, 1024, 16)}
"""Layers, width, heads."""
LENGTHS = {"60 to 64 tokens": (60, 64), "20 to 200 tokens": (20, 200), "30 to 300 tokens": (30, 300)}
Batch = list[TokenizedExample]
Step = Callable[[Batch], float]


def examples(low: int, high: int, seed: int) -> Batch:
    """Random ids, the second half of which is learnt."""
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(low, high + 1, ROWS).tolist():
        ids = tuple(rng.integers(3, VOCABULARY, length).tolist())
        made.append(TokenizedExample(ids, tuple(place >= length // 2 for place in range(length))))
    return made


def padded(batch: Batch) -> dict[str, torch.Tensor]:
    """What transformers reads."""
    width = max(len(one.ids) for one in batch)
    ids, mask, labels = (np.full((len(batch), width), value) for value in (0, 0, -100))
    for row, one in enumerate(batch):
        length = len(one.ids)
        ids[row, :length], mask[row, :length] = one.ids, 1
        labels[row, :length] = np.where(one.learnt, one.ids, -100)
    named = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.from_numpy(array).to(DEVICE) for name, array in named.items()}


def sides(folder: Path, size: tuple[int, int, int], precision: str, ways: list[str]) -> dict[str, Step]:
    """A step of PEFT's and one of ours by each way, from the same weights and adapter; each returns its loss."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width, heads = size
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
    )
    plain = LlamaForCausalLM(config)
    plain.save_pretrained(folder / "base")
    tuned: Any = get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16))
    tuned.save_pretrained(folder / "adapter")
    tuned.to(DEVICE).train()

    def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def theirs(batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        with precision_context(DEVICE, precision):
            loss = tuned(**padded(batch)).loss
        return step(loss, optimizer)

    def ours(batch: Batch, decoder: Any, optimizer: torch.optim.Optimizer) -> float:
        arrays = {name: torch.from_numpy(array) for name, array in batch_of([Row((one,)) for one in batch]).items()}
        with precision_context(DEVICE, precision):
            loss = sft_loss(decoder, **arrays) / sum(one.num_learnt for one in batch)
        return step(loss, optimizer)

    found: dict[str, Step] = {"PEFT": partial(theirs, optimizer=adamw(tuned))}
    for way in ways:
        decoder = load_pretrained(folder / "base", dtype=torch.float32)
        load_adapter(decoder, folder / "adapter")
        use_backend(decoder.to(DEVICE).train(), way)
        found[way] = partial(ours, decoder=decoder, optimizer=adamw(decoder))
    return found


def adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Over what is trained."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def compare(steps: dict[str, Step], name: str, tolerance: float) -> None:
    """Take turns and print; losses must agree."""
    low, high = LENGTHS[name]
    found: dict[str, list[float]] = {way: [] for way in steps if way != "PEFT"}
    for turn in range(TURNS + 1):
        batch, spent, losses = examples(low, high, turn), {}, {}
        for way in list(steps) if turn % 2 else reversed(steps):
            started = time.perf_counter()
            losses[way] = steps[way](batch)  # the loss is read, so everything is done
            if GPU:
                torch.cuda.synchronize()
            spent[way] = time.perf_counter() - started
        assert max(losses.values()) - min(losses.values()) < tolerance, losses
        for way, ratios in found.items():
            if turn:  # the first does not count
                ratios.append(spent[way] / spent["PEFT"])
    for way, ratios in found.items():
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(f"  {ROWS} texts of {name:18} {way:14} {middle:5.2f} ({least:.2f} to {most:.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="", help="of attention, with commas between [default: all that can be]")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{platform.processor() or platform.machine()}, {DEVICE.type}, {torch.get_num_threads()} threads", end=" ")
    print(f"{torch.cuda.get_device_name() if GPU else ''} torch {torch.__version__}; ours / PEFT, seconds of a step")
    for model, size in list(MODELS.items())[: 2 if GPU else 1]:
        for precision in ("float32", "bfloat16") if GPU else ("float32",):
            usual = ["sdpa_apart", "sdpa_together", *(["varlen"] if precision == "bfloat16" else [])]
            ways = options.ways.split(",") if options.ways else usual if GPU else ["sdpa"]
            print(f"{model}, {precision}")
            with tempfile.TemporaryDirectory() as folder:
                steps = sides(Path(folder), size, precision, ways)
                for name in LENGTHS:
                    compare(steps, name, 1e-3 if precision == "float32" else 5e-2)


if __name__ == "__main__":
    main()
