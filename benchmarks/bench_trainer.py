"""Training a 15M Llama beside transformers' Trainer: tokens per second, and bits per byte after the same time.

Both sides have a Llama of the same sizes with random weights and read the same rows of TinyStories in the same order,
in float32: the Trainer with AdamW at 1e-3, a warm-up and a cosine (its users' usual choice), ours with bloomery's
optimisers and schedule. First some steps of both in turn give the speed; then each trains for as many steps as fit
into the same seconds at that speed, and both are measured on the same validation text. With --fast ours is a decoder of
bloomery's own with as many parameters (within 1%), 59% of them in tables of embeddings (tokens, values, bigrams), which
are looked up and not multiplied.

Ours is a step of bloomery's loop out of the loop: batch, loss, gradient, the gradients' norm (which the loop computes
and by default does not clip; the Trainer clips at 1.0, its default), update. Events, progress, validations and
checkpoints of either side are not counted, nor are the Trainer's rows, which are made before. What speaks for ours: the
parts of --fast were selected on this very validation text (experiments/ablation_fast.py), and the Trainer's learning
rate is its users' usual one, not tuned.

    python benchmarks/bench_trainer.py [--seconds 120] [--turns 5] [--seeds 3] [--fast] [--processor] [--home DIR]
                                       [--keep]

With --home what has been measured is kept there, and not again when it is called again: three seeds of ten minutes are
an hour; with --keep the figures go into docs/results.md. A training's steps follow from the speeds alone, so only these
need a machine that does nothing else. Figures that were kept there before the norm was in our step, and threads in
their names, are read too, with a thread for each core, and said to be such.

Bars: 1.5 times the tokens per second; bits per byte lower by an interval over seeds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models.config import every_second_layer
from bloomery.tokenizer import PackedRows, TokenShards, evaluation_rows
from bloomery.tokenizer.packing import IGNORED
from bloomery.training import parts
from bloomery.training.allocation import keep_memory
from bloomery.training.causal import CausalObjective
from bloomery.training.objective import accumulate
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.parallel.ranks import ALONE
from bloomery.training.schedule import Schedule
from bloomery.training.utilisation import token_flops

VOCABULARY, CONTEXT, ROWS = 4096, 256, 16
CONFIG = ModelConfig(
    model_type="llama",
    vocab_size=VOCABULARY,
    hidden_size=384,
    intermediate_size=1024,
    num_hidden_layers=7,
    num_attention_heads=6,
    num_key_value_heads=6,
    head_dim=64,
    max_position_embeddings=CONTEXT,
)
FAST = replace(
    CONFIG,
    model_type="bloomery",
    hidden_size=320,
    intermediate_size=896,
    num_hidden_layers=4,
    num_attention_heads=5,
    num_key_value_heads=5,
    value_embedding_layers=every_second_layer(4),
    bigram_vocab_size=16384,
    **parts.FAST_PARTS.options(),
)
CPU = torch.device("cpu")


def experiment(name: str) -> Any:
    """A module of the experiments."""
    folder = str(Path(__file__).resolve().parents[1] / "experiments")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def stories(home: str) -> Any:
    """Tokens of TinyStories, as the ablation has them with another vocabulary."""
    module = experiment("ablation_fast")
    module.VOCABULARY = VOCABULARY
    return module.corpus(home)[0]


class Ours:
    """The steps of our loop."""

    name = "bloomery"

    def __init__(self, tokens: Any, seed: int, *, fast: bool) -> None:
        self.tokens, self.seed = tokens, seed
        self.config, self.settings, self.short = CONFIG, OptimizerConfig(), 0.0
        if fast:
            self.config, self.short = FAST, parts.FAST["short_rows_fraction"]

    def begin(self, steps: int) -> None:
        """Random weights, for so many steps."""
        torch.manual_seed(self.seed)
        self.model = Decoder(self.config)
        self.optimizers = Optimizers(self.model, self.settings)
        warmup = max(1, steps // 50)
        self.schedule = Schedule(total_steps=steps, warmup_steps=warmup, decay_steps=min(steps - warmup, steps // 2))
        rows = PackedRows(TokenShards(self.tokens, "train"), context_length=CONTEXT, seed=self.seed)
        self.objective = CausalObjective(self.model, rows, None, short_rows=round(self.short * steps) * ROWS)

    def run(self, steps: int, clock: Callable[[], float]) -> list[float]:
        """Seconds of each step."""
        times = []
        for number in range(steps):
            began = clock()
            loss = accumulate(self.objective, self.objective.next_batch(ROWS), ROWS, CPU, "float32")
            norm = ALONE.clip(self.model.parameters(), 0.0)
            assert math.isfinite(float(loss)) and math.isfinite(float(norm))
            self.optimizers.step(self.schedule.multiplier(number))
            times.append(clock() - began)
        return times

    def step_seconds(self, clock: Callable[[], float]) -> float:
        """Mean of a run's steps, of which the first, that finds its memory, does not count."""
        self.begin(steps := 10)
        times, short = self.run(steps, clock), round(self.short * steps)
        long = statistics.median(times[max(1, short) :])
        return self.short * statistics.median(times[1:short]) + (1 - self.short) * long if short else long

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V)."""
        return self.model(ids)


class Theirs:
    """transformers' Trainer."""

    name = "Trainer"

    def __init__(self, tokens: Any, seed: int) -> None:
        self.tokens, self.seed = tokens, seed

    def begin(self, steps: int) -> None:
        """Random weights, for so many steps."""
        import transformers

        torch.manual_seed(self.seed)
        values = {key: value for key, value in CONFIG.to_hf().items() if key != "architectures"}
        self.model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values))
        rows = PackedRows(TokenShards(self.tokens, "train"), context_length=CONTEXT, seed=self.seed)
        self.examples = []
        for _ in range(steps):
            inputs, labels = rows.next_batch(ROWS)
            self.examples += [_example(*pair) for pair in zip(inputs, labels, strict=True)]

    def run(self, steps: int, clock: Callable[[], float]) -> list[float]:
        """Seconds of each step."""
        import transformers

        times: list[float] = []
        examples: Any = self.examples

        class Watch(transformers.TrainerCallback):
            def on_train_begin(self, *arguments: Any, **named: Any) -> None:
                self.last = clock()

            def on_step_end(self, *arguments: Any, **named: Any) -> None:
                now = clock()
                times.append(now - self.last)
                self.last = now

        class InOrder(transformers.Trainer):
            def _get_train_sampler(self, train_dataset: Any = None) -> Any:
                rows: Any = train_dataset or self.train_dataset
                return torch.utils.data.SequentialSampler(rows)

        with tempfile.TemporaryDirectory(prefix="bloomery-trainer-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=ROWS,
                max_steps=steps,
                learning_rate=1e-3,
                weight_decay=0.1,
                adam_beta2=0.95,
                warmup_steps=max(1, steps // 20),
                lr_scheduler_type="cosine",
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                seed=self.seed,
            )
            InOrder(model=self.model, args=settings, train_dataset=examples, callbacks=[Watch()]).train()
        return times

    def step_seconds(self, clock: Callable[[], float]) -> float:
        """Of one step; the first does not count."""
        self.begin(5)
        return statistics.median(self.run(5, clock)[1:])

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V)."""
        return self.model(input_ids=ids).logits


def _example(inputs: np.ndarray, labels: np.ndarray) -> dict[str, torch.Tensor]:
    """As transformers has it: labels stand where their ids do. A row's last label is one that it does not read."""
    row, last = torch.from_numpy(inputs), torch.from_numpy(labels)
    return {"input_ids": row, "labels": torch.cat((torch.tensor([IGNORED]), last[:-1]))}


@torch.no_grad()
def bits_per_byte(side: Ours | Theirs, tokens: Any) -> float:
    """Over all of the validation text."""
    shards, nats, count = TokenShards(tokens, "validation"), 0.0, 0
    side.model.eval()
    for inputs, labels in evaluation_rows(shards, CONTEXT, 16):
        wanted = torch.from_numpy(labels).flatten()
        logits = side.logits(torch.from_numpy(inputs)).flatten(0, 1)
        nats += float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum"))
        count += int((wanted != IGNORED).sum())
    return nats / count * int(shards.num_labels().sum()) / shards.text_bytes / math.log(2)


def speeds(tokens: Any, turns: int, clock: Callable[[], float], *, fast: bool) -> tuple[list[float], list[float]]:
    """Seconds of a step of ours and of theirs, in turn."""
    ours, theirs = [], []
    for turn in range(turns):
        sides: list[Any] = [Ours(tokens, 0, fast=fast), Theirs(tokens, 0)]
        for side in sides if turn % 2 else sides[::-1]:
            (ours if isinstance(side, Ours) else theirs).append(side.step_seconds(clock))
    return ours, theirs


class Kept:
    """What was measured, in a folder, by name, clock and threads."""

    def __init__(self, home: str, options: argparse.Namespace) -> None:
        self.home = Path(home)
        self.kind = ("fast-" if options.fast else "") + ("processor" if options.processor else "clock")
        # What OMP_NUM_THREADS says now tells nothing of what was kept before: that had a thread for each core.
        self.threads, self.usual = options.threads, options.threads == os.cpu_count()
        self.older = False
        """Whether anything was read that was kept before threads were in the name, and the norm in our step."""

    def get(self, name: str, suffix: str, work: Callable[[], Any]) -> Any:
        """What `work` gave, now or when it was called for the first time."""
        older = self.home / f"{name}-{self.kind}-{suffix}.json"
        if self.usual and older.is_file():
            self.older = True
            return json.loads(older.read_text(encoding="utf-8"))
        path = self.home / f"{name}-{self.kind}-{self.threads}threads-{suffix}.json"
        if not path.is_file():
            part = path.with_suffix(".partial")
            part.write_text(json.dumps(work()), encoding="utf-8")
            part.replace(path)
        return json.loads(path.read_text(encoding="utf-8"))


def trained(side: Ours | Theirs, tokens: Any, steps: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Bits per byte after so many steps, and their seconds."""
    side.begin(steps)
    spent = sum(side.run(steps, clock))
    return bits_per_byte(side, tokens), spent


def told(ours: list[float], theirs: list[float], *, fast: bool) -> dict[str, Any]:
    """Print both speeds and their ratio, and give them."""
    size, given = ROWS * CONTEXT, {}
    for name, times, config in (("bloomery", ours, FAST if fast else CONFIG), ("Trainer", theirs, CONFIG)):
        model = Decoder(config)
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        flops = token_flops(model, CONTEXT) / 1e6
        print(
            f"{name}: {size / statistics.median(times):,.0f} tokens/s, at best {size / min(times):,.0f};"
            f" {millions:.1f}M parameters, {flops:.0f} million operations a token"
        )
        given[name] = {
            "tokens_per_second": [size / one for one in times],
            "parameters": millions * 1e6,
            "flops": flops * 1e6,
        }
    ratios = [one / other for one, other in zip(theirs, ours, strict=True)]
    print(f"tokens per second over the Trainer's: {statistics.median(ratios):.2f} (bar 1.5;", end=" ")
    print(f"{min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return {"sides": given, "ratios": ratios}


def races(
    tokens: Any, options: argparse.Namespace, kept: Kept, clock: Callable[[], float], speed: tuple[Any, Any]
) -> dict[str, Any]:
    """Both sides trained, seed by seed: bits per byte, steps and seconds of each, and what ours is below by."""
    reached, took, gains = [], [], []
    taken: dict[str, int] = {}
    for seed in range(options.seeds):
        found, seconds = {}, {}
        for side, times in zip((Ours(tokens, seed, fast=options.fast), Theirs(tokens, seed)), speed, strict=True):
            taken[side.name] = steps = max(3, int(options.seconds / statistics.median(times)))
            work = partial(trained, side, tokens, steps, clock)
            found[side.name], seconds[side.name] = kept.get(side.name, f"{seed}-{steps}", work)
            print(
                f"seed {seed}: {side.name} {found[side.name]:.4f} bits per byte, {steps} steps,"
                f" {seconds[side.name]:.0f} s",
                flush=True,
            )
        gains.append(found["Trainer"] - found["bloomery"])
        reached.append(found)
        took.append(seconds)
    less = experiment("common").over_seeds(gains)
    print(f"bits per byte less than the Trainer's: {less['mean']:.4f} ({less['low']:.4f} to {less['high']:.4f})")
    return {"reached": reached, "spent_seconds": took, "steps": taken, "less": less}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each training; 0: speed alone")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--processor", action="store_true", help="count processor time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    parser.add_argument("--home", default="", help="where results are kept [default: nowhere]")
    options = parser.parse_args()
    if options.keep and not options.seconds:
        parser.error("--keep needs trainings: not with --seconds 0")
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.processor else time.perf_counter
    print(f"PyTorch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bloomery-bench-") as scratch:
        home = options.home or scratch
        Path(home).mkdir(parents=True, exist_ok=True)
        tokens = stories(home)
        keep_memory()  # for both: they share this process
        kept = Kept(home, options)
        measure = partial(speeds, tokens, options.turns, clock, fast=options.fast)
        ours, theirs = kept.get("speeds", str(options.turns), measure)
        speed = told(ours, theirs, fast=options.fast)
        found = races(tokens, options, kept, clock, (ours, theirs)) if options.seconds else {}
        if kept.older:
            print("some of it was kept before: without the norm of gradients in our step")
        if options.keep:
            how = {name: getattr(options, name) for name in ("seconds", "seeds", "fast", "threads")}
            how["arguments"] = f"--threads {options.threads}" + " --processor" * options.processor
            how |= {"clock": "processor" if options.processor else "wall", "norm": not kept.older}
            experiment("common").keep("trainer", {**how, **speed, **found})


if __name__ == "__main__":
    main()
