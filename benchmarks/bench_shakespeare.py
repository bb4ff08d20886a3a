"""Tiny Shakespeare, character by character: time to nanoGPT's validation loss, and the loss in its time.

nanoGPT runs as published, from a checkout whose path is given (github.com/karpathy/nanoGPT), with the options of its
README for a CPU: 4 layers, 128 wide, 64 characters of context, batches of 12, 2,000 steps. Ours, a decoder of
bloomery's own (`fast`), trains twice: for a third of the time that took and for all of it. Only training counts,
neither start-up nor validation. The split is nanoGPT's (the last tenth validates) and so is the measure: the mean loss
over windows of 64 characters; all of the validation text for ours, 200 random batches for nanoGPT, by its own code.
Pairs run in turn.

What is not equal: ours is trained by a loop of its own, here, with bloomery's model, loss, optimisers and schedule but
without the norm of gradients, the events and the checkpoints of `bloomery pretrain`. How its constants (128 characters
of context, a decay over the last .6 of the steps, 8,192 pairs of characters; later 320 neurons) were chosen is not on
record; this bench has no other split than the one that it scores, nanoGPT's, so take them as chosen on it, in favour of
ours. What else `fast` has was chosen on other text (experiments/ablation_fast.py).

    python benchmarks/bench_shakespeare.py PATH_OF_NANOGPT [--pairs 5] [--processor] [--threads 2] [--keep]

--processor counts processor time instead of time, for a machine that does other things beside; with --keep the figures
go into docs/results.md. Bars: loss 1.88 in a third of the time; .25 nats less in the same time.
"""

from __future__ import annotations

import argparse
import importlib
import lzma
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models.config import every_second_layer
from bloomery.training.allocation import keep_memory
from bloomery.training.causal import causal_loss
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.parts import FAST_PARTS
from bloomery.training.schedule import Schedule

PROJECT = Path(__file__).resolve().parents[1]
BAR_LOSS, WINDOW, STEPS = 1.88, 64, 2000
RECIPE = (
    "--device=cpu --compile=False --eval_iters=200 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4"
    f" --n_head=4 --n_embd=128 --max_iters={STEPS} --lr_decay_iters={STEPS} --dropout=0.0 --eval_interval={STEPS}"
).split()
LAYERS, HIDDEN, HEADS, CONTEXT, ROWS = 4, 128, 2, 128, 12
WIDE, BIGRAMS = 320, 8192
"""Neurons of a gated feed-forward; hashed pairs."""
RATES: dict[str, Any] = {}


def shakespeare() -> str:
    """The text, of the data beside the project or wherever BLOOMERY_DATA points."""
    root = Path(os.environ.get("BLOOMERY_DATA") or PROJECT.parent / "shared" / "data")
    return lzma.decompress((root / "text" / "tinyshakespeare.txt.xz").read_bytes()).decode()


def encoded(text: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Ids of training and of validation, and how many there are, as nanoGPT's prepare.py has them."""
    letters = sorted(set(text))
    number = {letter: index for index, letter in enumerate(letters)}
    ids = np.array([number[letter] for letter in text], dtype=np.int64)
    cut = int(len(ids) * 0.9)
    return ids[:cut], ids[cut:], len(letters)


def nanogpt(checkout: Path, text: str, options: argparse.Namespace) -> tuple[float, float]:
    """(seconds of training, validation loss) of nanoGPT's own script."""
    with tempfile.TemporaryDirectory(prefix="bloomery-nanogpt-") as folder:
        home = Path(folder) / "nanoGPT"
        shutil.copytree(checkout, home, ignore=shutil.ignore_patterns(".git", "assets"))
        place = home / "data" / "shakespeare_char"
        train, held, count = encoded(text)
        for name, ids in (("train", train), ("val", held)):
            ids.astype(np.uint16).tofile(place / f"{name}.bin")
        # What prepare.py writes beside is a pickle, which nanoGPT reads for the size of the vocabulary.
        write = f"import pickle; pickle.dump({{'vocab_size': {count}}}, open('meta.pkl', 'wb'))"
        subprocess.run([sys.executable, "-c", write], cwd=place, check=True)
        command = [sys.executable, "-u", "train.py", "config/train_shakespeare_char.py", *RECIPE]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        watched, began, ended, loss = psutil.Process(process.pid), 0.0, 0.0, float("nan")
        for line in process.stdout:
            if options.processor:
                spent = watched.cpu_times()
                now = spent.user + spent.system
            else:
                now = time.perf_counter()
            if line.startswith("step 0:"):
                began = now
            elif line.startswith(f"iter {STEPS - 1}:"):
                ended = now
            elif line.startswith(f"step {STEPS}:"):
                loss = float(line.rsplit("val loss", 1)[1])
                process.kill()
        process.wait()
    if ended <= began:
        raise SystemExit("error: nanoGPT did not train\nhint: is that a checkout of github.com/karpathy/nanoGPT?")
    return ended - began, loss


class Ours:
    """A small decoder of bloomery's own, trained on random windows for so many seconds."""

    def __init__(self, text: str, seed: int, clock: Any) -> None:
        self.train_ids, self.held, count = encoded(text)
        self.seed, self.clock = seed, clock
        self.config = ModelConfig(
            model_type="bloomery",
            vocab_size=count,
            hidden_size=HIDDEN,
            intermediate_size=WIDE if FAST_PARTS.options()["gated_mlp"] else 4 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            head_dim=HIDDEN // HEADS,
            max_position_embeddings=CONTEXT,
            value_embedding_layers=every_second_layer(LAYERS),
            bigram_vocab_size=BIGRAMS,
            **FAST_PARTS.options(),
        )

    def begin(self, steps: int) -> None:
        """Random weights, and a schedule of so many steps."""
        torch.manual_seed(self.seed)
        self.random = np.random.default_rng(self.seed)
        self.model = Decoder(self.config)
        self.optimizers = Optimizers(self.model, OptimizerConfig(**RATES))
        warmup = max(1, steps // 50)
        self.schedule = Schedule(
            total_steps=steps, warmup_steps=warmup, decay_steps=min(steps - warmup, round(steps * 0.6))
        )

    def step(self, number: int) -> None:
        """One update."""
        starts = self.random.integers(0, len(self.train_ids) - CONTEXT, ROWS)
        rows = torch.from_numpy(self.train_ids[starts[:, None] + np.arange(CONTEXT + 1)])
        loss = self.loss(rows)
        loss.backward()
        self.optimizers.step(self.schedule.multiplier(number))

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean nats of all characters of (B, T + 1) but the first."""
        model, labels = self.model, rows[:, 1:].contiguous()
        total = causal_loss(
            model.hidden_states, model.output_weight, rows[:, :-1].contiguous(), labels, softcap=model.output_softcap
        )
        return total / labels.numel()

    def pace(self) -> float:
        """Seconds of a step: the median of some."""
        self.begin(100)
        times = []
        for number in range(25):
            began = self.clock()
            self.step(number)
            times.append(self.clock() - began)
        return statistics.median(times[5:])

    def train(self, seconds: float, pace: float) -> tuple[float, float]:
        """(seconds, validation loss) of a training of so many seconds. Rates go by the time that is over, so that a
        machine that slows down on the way cuts nothing short and takes no longer."""
        steps = max(2, int(seconds / pace))
        self.begin(steps)
        began = self.clock()
        while (spent := self.clock() - began) < seconds:
            self.step(min(steps - 1, int(steps * spent / seconds)))
        return self.clock() - began, self.validate()

    @torch.no_grad()
    def validate(self) -> float:
        """Mean nats over windows of WINDOW characters of the whole validation text."""
        count = (len(self.held) - 1) // WINDOW
        starts = np.arange(count) * WINDOW
        rows = torch.from_numpy(self.held[starts[:, None] + np.arange(WINDOW + 1)])
        losses = [float(self.loss(part)) * len(part) for part in rows.split(128)]
        return sum(losses) / count


def pairs_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds and loss of nanoGPT and of both trainings of ours, pair by pair."""
    clock, text = time.process_time if options.processor else time.perf_counter, shakespeare()
    unit = "processor seconds" if options.processor else "s"
    found = []
    for pair in range(options.pairs):
        if options.theirs:
            seconds, theirs = (float(value) for value in options.theirs.split(","))
        else:
            seconds, theirs = nanogpt(options.checkout, text, options)
        again = ", the one measurement that was given, the same for every pair" if options.theirs else ""
        print(f"pair {pair + 1}: nanoGPT {theirs:.4f} after {seconds:.1f} {unit} of training{again}", flush=True)
        ours = Ours(text, pair, clock)
        pace = ours.pace()
        third = ours.train(seconds / 3, pace)
        whole = ours.train(seconds, pace)
        size = sum(p.numel() for p in ours.model.parameters())
        print(
            f"  ours, {size:,} parameters: {third[1]:.4f} after {third[0]:.1f}"
            f" {unit}, {whole[1]:.4f} after {whole[0]:.1f}",
            flush=True,
        )
        found.append({"nanogpt": (seconds, theirs), "third": third, "whole": whole, "parameters": size})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", help="a checkout of github.com/karpathy/nanoGPT")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--processor", action="store_true", help="count processor time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--theirs", default="", help="SECONDS,LOSS of nanoGPT, measured before: do not run it again")
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    if options.checkout is None and not options.theirs:
        print("skipped: nanoGPT is not here; give the path of a checkout of github.com/karpathy/nanoGPT")
        return
    if options.keep and options.theirs:
        parser.error("--keep is of pairs that run in turn: not with --theirs")
    torch.set_num_threads(options.threads)
    keep_memory()
    print(f"PyTorch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    pairs = pairs_of(options)
    shares = [p["third"][0] / p["nanogpt"][0] if p["third"][1] <= BAR_LOSS else float("inf") for p in pairs]
    gains = [p["nanogpt"][1] - p["whole"][1] for p in pairs]
    share, gain = statistics.median(shares), statistics.median(gains)
    print(f"loss {BAR_LOSS} within {share:.2f} of nanoGPT's time (bar .33; smallest {min(shares):.2f})")
    print(f"in its time {gain:+.3f} nats less (bar .25; {min(gains):.3f} to {max(gains):.3f})")
    if options.theirs:
        print("nanoGPT was measured once, not in turn: how much its time varies is not in these")
    if options.keep:
        clock = "processor" if options.processor else "wall"
        how = {"threads": options.threads, "clock": clock, "loss": BAR_LOSS}
        given = f"--pairs {options.pairs} --threads {options.threads}" + " --processor" * options.processor
        sys.path.insert(0, str(PROJECT / "experiments"))
        importlib.import_module("common").keep("shakespeare", {**how, "arguments": given, "pairs": pairs})


if __name__ == "__main__":
    main()
