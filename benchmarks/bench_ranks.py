"""What several processes gain, and how much of a GPU's matrix peak a training step uses.

Without options, on two cores: the same 4M-parameter pre-training by one process with one thread, by two ranks with one
thread each, and by one process with two threads, taken in turn; tokens a second of the steps alone. It prints the
efficiency (two ranks over twice one process) and the ratio to two threads, the median with the smallest and largest.

With --device cuda, on one GPU, about a minute: a 124M decoder (12 layers x 768, context 1,024) in bfloat16, compiled:
seconds to compile, seconds a step, the share of the peak that a large bfloat16 product reaches here and of the one on
the data sheet, where the time goes, and what compiling makes of the utilisation of runs of some minutes.

    python benchmarks/bench_ranks.py [--pairs 3]          # CPU: under 100 s with 3 pairs on an idle machine
    python benchmarks/bench_ranks.py --device cuda        # one GPU
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.models import Decoder, ModelConfig
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import ParallelConfig, PretrainConfig, pretrain
from bloomery.training.linear_cross_entropy import linear_cross_entropy
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.planning.shapes import step_flops
from bloomery.training.speed import measure_step, muon_dtype

STEPS = 8
CPU = PretrainConfig(
    steps=STEPS,
    hidden_size=256,
    num_hidden_layers=4,
    context_length=256,
    batch_rows=8,
    precision="float32",
    compile="off",
    device="cpu",
    validations=0,
    checkpoint_seconds=1e6,
)
GPU = ModelConfig(
    model_type="qwen3",
    vocab_size=50_304,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    num_key_value_heads=12,
    head_dim=64,
    intermediate_size=2048,
    max_position_embeddings=1024,
    tie_word_embeddings=True,
)
# Dense bfloat16, NVIDIA's data sheets.
SHEET_TFLOPS = {"H100 80GB HBM3": 989.0, "H100 PCIe": 756.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0}


def prepared(folder: Path) -> Workspace:
    """A corpus of random words; what is learnt does not matter here."""
    (folder / "text").mkdir()
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 9))) for _ in range(3000)]
    for n in range(60):
        (folder / "text" / f"{n:03}.txt").write_text(" ".join(rng.choices(words, k=500)))
    workspace = Workspace(folder / "home")
    curate([str(folder / "text")], config=CurateConfig(decontaminate_words=0), workspace=workspace)
    return workspace


def scaling(pairs: int) -> None:
    """Print tokens a second of one process, two ranks and two threads."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepared(Path(folder))
        corpus = workspace.latest("corpus")
        tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=2048), workspace=workspace)
        tokens = tokenize(corpus, tokenizer, workspace=workspace)

        def rate(ranks: int, threads: int) -> float:
            torch.set_num_threads(threads)
            parallel = ParallelConfig(ranks=ranks)
            given = {"tokens": tokens, "config": CPU, "parallel": parallel, "workspace": workspace, "fresh": True}
            return pretrain(corpus, tokenizer, **given).metrics["tokens_per_second"]

        rounds = []
        for number in range(pairs):
            one, two, threads = rate(1, 1), rate(2, 1), rate(1, 2)
            rounds.append((one, two, threads))
            print(f"pair {number + 1}: {one:,.0f}, {two:,.0f}, {threads:,.0f} tokens/s of one, two ranks, two threads")
        print(f"efficiency of two ranks   {spread([two / (2 * one) for one, two, _ in rounds])}")
        print(f"two ranks : two threads   {spread([two / threads for _, two, threads in rounds])}")


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    """The median seconds of some work on the GPU."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def matrix_peak(size: int = 8192) -> float:
    """Operations a second of a large bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / timed(lambda: torch.mm(a, b), 20)


def utilisation(rows: int) -> None:
    """Print what a compiled step of 124M parameters takes and uses."""
    device, context = torch.device("cuda"), GPU.max_position_embeddings
    name, peak = torch.cuda.get_device_name(), matrix_peak()
    began = time.perf_counter()
    step = measure_step(
        GPU, rows=rows, context_length=context, precision="bfloat16", device=device, compiled=True, steps=12
    )
    whole = time.perf_counter() - began
    tokens = rows * context
    flops = step_flops(GPU, tokens, context)
    used = flops / step.seconds
    sheet = next((value * 1e12 for key, value in SHEET_TFLOPS.items() if key in name), None)
    print(f"{name}; PyTorch {torch.__version__}; {step.parameters / 1e6:.0f}M parameters, {rows} x {context} tokens")
    print(f"compiling took {step.compile_seconds:.1f} s; building, compiling and 12 steps {whole:.1f} s")
    print(f"a step takes {step.seconds * 1e3:.1f} ms: {tokens / step.seconds:,.0f} tokens/s, {used / 1e12:.0f} TFLOP/s")
    print(f"of the product measured here, {peak / 1e12:.0f} TFLOP/s: {used / peak:.1%}", end="")
    print(f"; of the data sheet's {sheet / 1e12:.0f}: {used / sheet:.1%}" if sheet else "")
    for minutes in (1, 5, 30):
        share = 1 - step.compile_seconds / (60 * minutes)
        print(f"  compile included, a run of {minutes} min: {share * used / peak:.1%}")
    parts(rows, step.seconds)


def parts(rows: int, seconds: float) -> None:
    """Where a step's time goes: the output head with its loss, and the optimisers; the layers are the rest."""
    hidden = torch.randn(rows * GPU.max_position_embeddings, GPU.hidden_size, device="cuda", requires_grad=True)
    labels = torch.randint(0, GPU.vocab_size, (len(hidden),), device="cuda")
    model = Decoder(GPU).to("cuda")

    def loss() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            made = linear_cross_entropy(hidden, model.output_weight, labels)
        made.backward()
        hidden.grad = None

    head = timed(loss)
    optimizers = Optimizers(model, OptimizerConfig(), muon_dtype=muon_dtype("bfloat16"))

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step(1e-6)

    stepping = timed(step)
    rest = seconds - head - stepping
    for label, part in (("layers", rest), ("output head and loss", head), ("optimisers", stepping)):
        print(f"  {label:22} {part * 1e3:6.1f} ms  {part / seconds:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64, help="rows of 1,024 tokens of a step on the GPU")
    options = parser.parse_args()
    if options.device == "cuda":
        utilisation(options.rows)
        return
    print(f"{platform.processor() or platform.machine()}; PyTorch {torch.__version__}; {STEPS} steps each")
    scaling(options.pairs)


if __name__ == "__main__":
    main()
