"""The bottleneck: what a fixed vector cannot carry and attention can, on sequences to reverse or to copy.

    python experiments/sequence_bottleneck.py [--tasks reverse,copy] [--steps N] [--seeds N]

Trains a GRU without attention, a GRU with additive attention and a transformer (T5's, relative positions) of like
size on random sequences of 1 to 20 symbols, writes new ones of up to 60 greedily, and prints which share of the tokens
is right at each length: the mean over the seeds with its interval. Lengths above 20 were never
seen in training. What this does not know: text; nor what any of the nets would reach with more steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from common import SEEDS, keep, over_seeds, run_arms, scratch_home, shown

from bloomery.training.sequence import TextPair

if TYPE_CHECKING:
    from bloomery.models.recurrent import RecurrentSeq2Seq
    from bloomery.models.seq2seq import Seq2Seq

    Net = RecurrentSeq2Seq | Seq2Seq

PAD, BOS, EOS, SYMBOLS = 0, 1, 2, 26
TRAINED, LENGTHS = 20, (5, 10, 15, 20, 25, 30, 40, 50, 60)
VOCABULARY = 3 + SYMBOLS
NETS = ("GRU", "GRU with attention", "transformer")


def make(kind: str) -> Net:
    """About half a million parameters each."""
    from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq
    from bloomery.models.seq2seq import Seq2Seq
    from bloomery.models.seq2seq_config import Seq2SeqConfig

    if kind == "transformer":
        sizes: dict[str, Any] = {
            "d_model": 96,
            "d_kv": 24,
            "d_ff": 384,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
        }
        ids: dict[str, Any] = {"pad_token_id": PAD, "decoder_start_token_id": BOS, "eos_token_id": EOS}
        return Seq2Seq(Seq2SeqConfig(vocab_size=VOCABULARY, **sizes, **ids))
    both: dict[str, Any] = {"source_vocab_size": VOCABULARY, "target_vocab_size": VOCABULARY, "embedding_size": 64}
    if kind == "GRU":
        return RecurrentSeq2Seq(RecurrentConfig(**both, hidden_size=212, context="every_step"))
    return RecurrentSeq2Seq(RecurrentConfig(**both, hidden_size=144, context="additive", bidirectional=True))


class Drawn:
    """Pairs drawn as they are asked for: 1 to 20 random symbols, and what the task makes of them."""

    def __init__(self, task: str, seed: int) -> None:
        self.task, self.seed, self.drawn = task, seed, 0

    def next(self, rows: int) -> list[TextPair]:
        """Pairs that no batch had before."""
        rng = np.random.default_rng([self.seed, self.drawn])
        self.drawn += 1
        return pairs(self.task, rng.integers(1, TRAINED + 1, rows), rng)

    def held_out(self) -> Iterator[list[TextPair]]:
        """Nothing: the lengths are tested afterwards."""
        return iter(())

    def __bool__(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        """How many batches were drawn."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.drawn = int(state["drawn"])

    def stats(self) -> dict[str, Any]:
        """How many batches were drawn."""
        return {"batches": self.drawn}


def pairs(task: str, lengths: np.ndarray, rng: np.random.Generator) -> list[TextPair]:
    """Random symbols of these lengths, and the same backwards or again."""
    sources = [rng.integers(3, VOCABULARY, length).tolist() for length in lengths]
    return [TextPair(source, source[::-1] if task == "reverse" else source) for source in sources]


def train(net: Net, home: str, task: str, kind: str, seed: int, steps: int) -> float:
    """Tokens per second of training, sources and targets counted."""
    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs
    from bloomery.core.workspace import Workspace
    from bloomery.energy import open_meter
    from bloomery.training.fit import FitConfig, fit
    from bloomery.training.sequence import SequenceObjective

    config = FitConfig(
        steps=steps,
        batch_rows=64,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.0,
        max_norm=1.0,
        seed=seed,
        precision="float32",
        device="cpu",
        checkpoint_seconds=1e9,
    )
    inputs = StageInputs(stage="experiment-sequences", config={"task": task, "kind": kind, "steps": steps}, seed=seed)
    with Run(Workspace(home), inputs, meter=open_meter()) as run:
        objective = SequenceObjective(net, Drawn(task, seed), seed=seed)
        return fit(run, objective, config).metrics["tokens_per_second"]


def accuracy(net: Net, task: str, seed: int) -> dict[str, float]:
    """The share of tokens that greedy search gets right, at each of LENGTHS; what was not written is wrong."""
    import torch

    from bloomery.models.seq2seq import Seq2Seq

    net.eval()
    rng, found = np.random.default_rng([seed, 99]), {}
    for length in LENGTHS:
        asked = pairs(task, np.full(100, length), rng)
        source = torch.from_numpy(np.array([net.source_ids(pair.source) for pair in asked]))
        limit = length + 1
        if isinstance(net, Seq2Seq):
            written = net.greedy(source, torch.ones_like(source), max_new_tokens=limit)
        else:
            written = net.greedy(source, max_new_tokens=limit)
        right = 0
        for got, pair in zip(written, asked, strict=True):
            right += sum(a == b for a, b in zip(got, pair.target, strict=False))
        found[str(length)] = right / (100 * length)
    return found


def one(home: str, task: str, kind: str, seed: int, steps: int) -> dict[str, Any]:
    """One net trained and tested."""
    import torch

    torch.manual_seed(seed)
    net = make(kind)
    speed = train(net, home, task, kind, seed, steps)
    found = accuracy(net, task, seed)
    print(task, kind, seed, {length: round(value, 2) for length, value in found.items()}, flush=True)
    size = sum(parameter.numel() for parameter in net.parameters())
    return {"task": task, "kind": kind, "seed": seed, "accuracy": found, "tokens_per_second": speed, "parameters": size}


def main() -> None:
    """Train, test, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="reverse,copy")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    with scratch_home(options.home) as home:
        arms = [
            (home, task, kind, seed, options.steps) for seed in range(options.seeds) for task in tasks for kind in NETS
        ]
        found = run_arms(one, arms, jobs=options.jobs)
    result: dict[str, Any] = {}
    for task in tasks:
        for kind in NETS:
            mine = [arm for arm in found if (arm["task"], arm["kind"]) == (task, kind)]
            result.setdefault(task, {})[kind] = {
                "accuracy": {str(n): over_seeds([arm["accuracy"][str(n)] for arm in mine]) for n in LENGTHS},
                "tokens_per_second": over_seeds([arm["tokens_per_second"] for arm in mine]),
                "parameters": mine[0]["parameters"],
            }
            row = result[task][kind]["accuracy"]
            print(task, kind, *(f"{length}: {shown(value)}" for length, value in row.items()))
    if options.seeds == len(SEEDS):
        keep("sequences", {"steps": options.steps, "trained": TRAINED, "tasks": result, "arms": found})


if __name__ == "__main__":
    main()
