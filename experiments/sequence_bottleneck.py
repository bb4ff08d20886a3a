"""The bottleneck: what a fixed vector cannot carry and attention can, on sequences to reverse or to copy.

    python experiments/sequence_bottleneck.py [--task reverse|copy] [--steps N] [--seeds N]

Trains a GRU without attention, a GRU with additive attention and a transformer (T5's, relative positions) of like
size on random sequences of 1 to 20 symbols, writes new ones of up to 60 greedily, and prints which share of the tokens
is right at each length: the mean over the seeds and the least and the greatest of them. Lengths above 20 were never
seen in training. What this does not know: text; nor what any of the nets would reach with more steps.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq
from bloomery.models.seq2seq_config import Seq2SeqConfig

PAD, BOS, EOS, SYMBOLS = 0, 1, 2, 26
TRAINED, LENGTHS = 20, (5, 10, 15, 20, 25, 30, 40, 50, 60)
VOCABULARY = 3 + SYMBOLS
NETS = ("GRU", "GRU with attention", "transformer")


def make(kind: str) -> RecurrentSeq2Seq | Seq2Seq:
    """About half a million parameters each."""
    if kind == "transformer":
        sizes = {"d_model": 96, "d_kv": 24, "d_ff": 384, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
        ids = {"pad_token_id": PAD, "decoder_start_token_id": BOS, "eos_token_id": EOS}
        return Seq2Seq(Seq2SeqConfig(vocab_size=VOCABULARY, **sizes, **ids))
    sizes = {"source_vocab_size": VOCABULARY, "target_vocab_size": VOCABULARY, "embedding_size": 64}
    if kind == "GRU":
        return RecurrentSeq2Seq(RecurrentConfig(**sizes, hidden_size=212, context="every_step"))
    return RecurrentSeq2Seq(RecurrentConfig(**sizes, hidden_size=144, context="additive", bidirectional=True))


def examples(lengths: Tensor, task: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sources (B, S), padded, and labels (B, S + 1) that end with EOS, -100 after it."""
    places = torch.arange(int(lengths.max()) + 1)
    real = places[None, :-1] < lengths[:, None]
    source = torch.randint(3, VOCABULARY, real.shape, generator=generator).masked_fill(~real, PAD)
    order = (
        (lengths[:, None] - 1 - places[:-1]).clamp(min=0) if task == "reverse" else places[None, :-1].expand_as(real)
    )
    labels = source.gather(1, order).masked_fill(~real, -100)
    labels = torch.cat((labels, torch.full((len(labels), 1), -100)), dim=1)
    labels[torch.arange(len(labels)), lengths] = EOS
    return source, labels


def logits(net: RecurrentSeq2Seq | Seq2Seq, source: Tensor, labels: Tensor) -> Tensor:
    """Teacher forced."""
    start = torch.full((len(labels), 1), BOS)
    inputs = torch.cat((start, labels[:, :-1].clamp(min=PAD)), dim=1)
    return net(source, inputs, source != PAD) if isinstance(net, Seq2Seq) else net(source, inputs)


def train(net: RecurrentSeq2Seq | Seq2Seq, task: str, steps: int, generator: torch.Generator) -> float:
    """Tokens per second of training."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    began, tokens = time.perf_counter(), 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 100, 2 * (1 - step / steps))
        source, labels = examples(torch.randint(1, TRAINED + 1, (64,), generator=generator), task, generator)
        loss = F.cross_entropy(logits(net, source, labels).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        tokens += int((labels >= 0).sum())
    return tokens / (time.perf_counter() - began)


def accuracy(net: RecurrentSeq2Seq | Seq2Seq, task: str, generator: torch.Generator) -> Iterator[float]:
    """The share of tokens that greedy search gets right, at each of LENGTHS; what was not written is wrong."""
    net.eval()
    for length in LENGTHS:
        source, labels = examples(torch.full((100,), length), task, generator)
        pairs = zip(net.greedy(source, max_new_tokens=length), labels[:, :length].tolist(), strict=True)
        right = sum(a == b for got, want in pairs for a, b in zip(got, want, strict=False))
        yield right / (100 * length)


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--task", choices=("reverse", "copy"), default="reverse")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{options.task}, {options.steps} steps of 64, {options.seeds} seeds, {machine}")
    print(f"{'':20}{'parameters':>12}{'tokens/s':>10}" + "".join(f"{length:>17}" for length in LENGTHS))
    for kind in NETS:
        rows, speeds, size = [], [], 0
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            net = make(kind)
            size = sum(parameter.numel() for parameter in net.parameters())
            speeds.append(train(net, options.task, options.steps, generator))
            rows.append(list(accuracy(net, options.task, generator)))
        cells = [f"{sum(c) / len(c):.2f} ({min(c):.2f}-{max(c):.2f})" for c in zip(*rows, strict=True)]
        speed = sum(speeds) / len(speeds)
        print(f"{kind:20}{size:>12,}{speed:>10,.0f}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
