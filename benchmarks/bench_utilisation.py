"""Which share of this machine's peak in matrix products a training step does for its model, and where the rest goes.

Decoders of 15 million parameters and more take steps as the training loop does: rows of random tokens, the loss, its
gradient, the update. Between steps the peak is measured again (products of square matrices of 1,024), and each step is
compared with the two peaks around it: a shared machine is slower now and then. Then some steps are profiled, and the
time in operators is told by what it was for. See `bloomery.training.utilisation` for what is counted.

    python benchmarks/bench_utilisation.py [--steps 10] [--cases "288,384"] [--threads N] [--whole] [--compile]

--whole: Muon orthogonalises every matrix whole at every step. --compile: beside it the same steps with the
layers compiled by torch.compile, in turn, and after how many steps the seconds of compiling come back. Bar: 70%.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from typing import Any

import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.training.allocation import keep_memory
from bloomery.training.causal import causal_loss
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.utilisation import token_flops

CONTEXT, ROWS, SIZE, PRODUCTS, PROFILED = 256, 16, 1024, 12, 3
CASES = {"288": (288, 13, 6), "384": (384, 7, 6), "512": (512, 4, 8)}
"""Hidden size, layers, heads."""
WHOLE = {"matrix_by_head": False, "matrix_feed_block": 0}
PRODUCT, MUON, ADAM = "matrix products of the model", "Muon", "AdamW"
ATTENTION, LOSS, REST = "attention", "loss beside its products", "norms, rotations, gates, sums"
_PRODUCTS = frozenset({"aten::mm", "aten::addmm", "aten::addmm_"})


class Case:
    """A Llama with vocabulary 4,096 and one batch of random tokens."""

    def __init__(self, name: str, *, whole: bool, compiled: bool = False) -> None:
        hidden, layers, heads = CASES[name]
        torch.manual_seed(0)
        config = ModelConfig(
            model_type="llama",
            vocab_size=4096,
            hidden_size=hidden,
            intermediate_size=round(hidden * 8 / 3 / 128) * 128,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=hidden // heads,
            max_position_embeddings=CONTEXT,
        )
        self.model = Decoder(config)
        states = self.model.hidden_states
        self.states: Any = torch.compile(states, dynamic=False) if compiled else states
        self.optimizers = Optimizers(self.model, OptimizerConfig(**(WHOLE if whole else {})))
        self.ids = torch.randint(0, 4096, (ROWS, CONTEXT + 1))
        self.flops = token_flops(self.model, CONTEXT) * ROWS * CONTEXT
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def step(self) -> None:
        """One update."""
        inputs, labels = self.ids[:, :-1].contiguous(), self.ids[:, 1:].contiguous()
        loss = causal_loss(self.states, self.model.output_weight, inputs, labels) / labels.numel()
        loss.backward()
        self.optimizers.step(1.0)
        float(loss.detach())


def peak(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
    """Operations a second of some products, now."""
    began = time.perf_counter()
    for _ in range(PRODUCTS):
        torch.mm(a, b, out=out)
    return 2.0 * SIZE**3 * PRODUCTS / (time.perf_counter() - began)


def shares(case: Case, steps: int) -> tuple[list[float], list[float], list[float]]:
    """Of each step: its share of the peak around it, its seconds; and the peaks."""
    a = torch.full((SIZE, SIZE), 1 / SIZE)
    b, out = a.clone(), torch.empty_like(a)
    for _ in range(2):
        case.step()
    peak(a, b, out)
    peaks, seconds = [peak(a, b, out)], []
    for _ in range(steps):
        seconds.append(timed(case))
        peaks.append(peak(a, b, out))
    pairs = zip(seconds, peaks[:-1], peaks[1:], strict=True)
    return [case.flops / one / ((before + after) / 2) for one, before, after in pairs], seconds, peaks


def timed(case: Case) -> float:
    """Seconds of a step."""
    began = time.perf_counter()
    case.step()
    return time.perf_counter() - began


def compared(name: str, plain: Case, steps: int, *, whole: bool) -> None:
    """Steps with and without torch.compile, in turn."""
    case = Case(name, whole=whole, compiled=True)
    first = timed(case)
    case.step()
    pairs = [(timed(plain), timed(case)) for _ in range(steps)]
    ratio = statistics.median(before / after for before, after in pairs)
    usual, quick = (statistics.median(times) for times in zip(*pairs, strict=True))
    extra, saved = max(0.0, first - quick), usual - quick
    back = f"back after {extra / saved:,.0f} steps" if saved > 0 else "never back"
    print(f"    compiled: {ratio:.2f} times as fast; {extra:.0f} s of compiling, {back}", flush=True)


def purpose(event: Any) -> str:
    """What an operator's own time was for."""
    names = [event.name]
    above = event.cpu_parent
    while above is not None:
        names.append(above.name)
        above = above.cpu_parent
    if any("Muon" in name for name in names):
        return MUON
    if any("AdamW" in name for name in names):
        return ADAM
    if names[0] in _PRODUCTS:
        return PRODUCT
    if any("scaled_dot_product" in name for name in names):
        return ATTENTION
    return LOSS if any("CrossEntropy" in name for name in names) else REST


def profiled(case: Case) -> Counter[str]:
    """Microseconds of some steps by purpose."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(PROFILED):
            case.step()
    spent: Counter[str] = Counter()
    for event in found.events() or ():
        spent[purpose(event)] += event.self_cpu_time_total
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cases", default=",".join(CASES), help="hidden sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    print(f"PyTorch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    for name in options.cases.split(","):
        case = Case(name, whole=options.whole)
        found, seconds, peaks = shares(case, options.steps)
        low, middle, high = statistics.quantiles(found, n=4)
        speed = ROWS * CONTEXT / statistics.median(seconds)
        print(
            f"{case.parameters / 1e6:.1f}M parameters, {name} wide: utilisation {middle:.1%} (the middle half of steps"
            f" {low:.1%} to {high:.1%}) of {statistics.median(peaks) / 1e9:.0f} GFLOP/s; {speed:,.0f} tokens/s",
            flush=True,
        )
        spent = profiled(case)
        total = sum(spent.values())
        for what, time_of in spent.most_common():
            print(f"    {time_of / total:6.1%}  {what}")
        if options.compile:
            compared(name, case, options.steps, whole=options.whole)


if __name__ == "__main__":
    main()
