"""Which share of this machine's peak in matrix products a training step does for its model, and where the rest goes.

Decoders of 15 million parameters and more take steps as the training loop does, with its own functions: packed rows of
Python's standard library are read, then the loss, its gradient, the gradient's norm, the update. Events, validations
and checkpoints are not in a step. Then some steps are profiled, and the time in operators is told by what it was for.
See `bloomery.training.utilisation` for what is counted.

The peak is the mean speed of twelve products of square matrices of 1,024, measured again between any two steps; each
step is compared with the mean of the two around it, for a shared machine is slower now and then. What a run prints
(`utilisation.matrix_peak`) is measured once, and is the speed of the fastest of its products: a higher peak, so the
share that a run prints is lower than the one here.

    python benchmarks/bench_utilisation.py [--steps 10] [--cases "288,384"] [--threads N] [--whole] [--compile] [--keep]

--whole: Muon orthogonalises every matrix whole at every step. --compile: beside it the same steps with the
layers compiled by torch.compile, in turn, and after how many steps the seconds of compiling come back. --keep: the
figures go into docs/results.md. Bar: 70%.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from bloomery.corpus import CurateConfig, curate
from bloomery.models import Decoder, ModelConfig
from bloomery.tokenizer import PackedRows, TokenizeConfig, TokenizerConfig, TokenShards, tokenize, train_tokenizer
from bloomery.training.allocation import keep_memory
from bloomery.training.causal import CausalObjective
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.parallel.ranks import ALONE
from bloomery.training.utilisation import token_flops

VOCABULARY, CONTEXT, ROWS, SIZE, PRODUCTS, PROFILED = 4096, 256, 16, 1024, 12, 3
FILES = 150
"""Of the standard library, which are read."""
CPU = torch.device("cpu")
CASES = {"288": (288, 13, 6), "384": (384, 7, 6), "512": (512, 4, 8)}
"""Hidden size, layers, heads."""
WHOLE = {"matrix_by_head": False, "matrix_feed_block": 0}
PRODUCT, MUON, ADAM = "matrix products of the model", "Muon", "AdamW"
ATTENTION, LOSS, REST = "attention", "loss beside its products", "norms, rotations, gates, sums"
_PRODUCTS = frozenset({"aten::mm", "aten::addmm", "aten::addmm_"})


class Case:
    """A Llama that reads packed rows of tokens."""

    def __init__(self, name: str, shards: TokenShards, *, whole: bool, compiled: bool = False) -> None:
        hidden, layers, heads = CASES[name]
        torch.manual_seed(0)
        config = ModelConfig(
            model_type="llama",
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=round(hidden * 8 / 3 / 128) * 128,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=hidden // heads,
            max_position_embeddings=CONTEXT,
        )
        self.model = Decoder(config)
        states = ALONE.compiled(self.model, self.model.hidden_states) if compiled else None
        rows = PackedRows(shards, context_length=CONTEXT, seed=0)
        self.objective = CausalObjective(self.model, rows, None, hidden_states=states)
        self.optimizers = Optimizers(self.model, OptimizerConfig(**(WHOLE if whole else {})))
        self.flops = token_flops(self.model, CONTEXT) * ROWS * CONTEXT
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def step(self) -> None:
        """One update; loss and norm are read, as the loop reads them before it goes on."""
        loss = ALONE.accumulate(self.objective, self.objective.next_batch(ROWS), ROWS, CPU, "float32")
        norm = ALONE.clip(self.model.parameters(), 0.0)
        assert math.isfinite(float(loss)) and math.isfinite(float(norm))
        ALONE.step(self.optimizers, 1.0)


def experiment_tools() -> Any:
    """What the experiments share."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
    return importlib.import_module("common")


def library(home: Path) -> TokenShards:
    """Tokens of some files of Python's standard library: always there, and of lengths that vary."""
    tools = experiment_tools()
    path = tools.write_jsonl(home / "library.jsonl", ({"text": text} for text in tools.stdlib_sources()[:FILES]))
    sources = (str(path),)
    corpus = curate(sources, config=CurateConfig(sources=sources), workspace=home)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=VOCABULARY), workspace=home)
    tokens = tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
    return TokenShards(tokens, "train")


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


def compared(case: Case, plain: Case, steps: int) -> dict[str, float]:
    """Steps with and without torch.compile, in turn."""
    first = timed(case)
    case.step()
    pairs = [(timed(plain), timed(case)) for _ in range(steps)]
    ratio = statistics.median(before / after for before, after in pairs)
    usual, quick = (statistics.median(times) for times in zip(*pairs, strict=True))
    extra, saved = max(0.0, first - quick), usual - quick
    back = f"back after {extra / saved:,.0f} steps" if saved > 0 else "never back"
    print(f"    compiled: {ratio:.2f} times as fast; {extra:.0f} s of compiling, {back}", flush=True)
    return {"ratio": ratio, "seconds": extra}


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
    if any("scaled_dot_product" in name or "NativeAttention" in name for name in names):
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


def measured(name: str, shards: TokenShards, options: argparse.Namespace) -> dict[str, Any]:
    """Print what a case's steps do, and give it."""
    case = Case(name, shards, whole=options.whole)
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
    told = {
        "width": CASES[name][0],
        "parameters": case.parameters,
        "utilisation": {"low": low, "median": middle, "high": high},
        "peak_flops": statistics.median(peaks),
        "tokens_per_second": speed,
        "profile": {what: time_of / total for what, time_of in spent.most_common()},
    }
    if options.compile:
        compiled = Case(name, shards, whole=options.whole, compiled=True)
        told["compiled"] = compared(compiled, case, options.steps)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cases", default=",".join(CASES), help="hidden sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    if unknown := set(options.cases.split(",")) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    torch.set_num_threads(options.threads)
    keep_memory()
    print(f"PyTorch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bloomery-bench-") as home:
        shards = library(Path(home))
        cases = [measured(name, shards, options) for name in options.cases.split(",")]
    if options.keep:
        given = f"--steps {options.steps} --cases {options.cases} --threads {options.threads}"
        given += " --whole" * options.whole + " --compile" * options.compile
        how = {"steps": options.steps, "threads": options.threads, "whole": options.whole, "arguments": given}
        experiment_tools().keep("utilisation", {**how, "batch": [ROWS, CONTEXT], "cases": cases})


if __name__ == "__main__":
    main()
