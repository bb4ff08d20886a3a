"""What attention costs by each way of computing it: flex, native training and padding left out; ratios.

Both sides of a ratio are taken in turn, several times, forward alone but for training; it prints the median with the
smallest and the largest. Below 1 the newcomer is faster. Flex attention is compiled first (not counted, printed apart),
on a GPU if there is one. Padding is measured on the CPU, where encoders leave it out, and so is training, forward and
backward in native code beside SDPA.

    python benchmarks/bench_attention.py            # all
    python benchmarks/bench_attention.py padding    # or flex, or training
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.models.attention import EVERYTHING, Mask, attend, causal_mask
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import FULL, SLIDING, EncoderConfig
from bloomery.models.native.attention_training import native_attention
from bloomery.models.native.library import library
from bloomery.training.allocation import keep_memory

TURNS = 7
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HEADS, KV_HEADS, HEAD_DIM = 8, 4, 64
LENGTHS = (512, 2048)
ENCODERS = {  # (family, hidden_size, layers, heads, intermediate_size)
    "BERT-Tiny": ("bert", 128, 2, 2, 512),
    "MiniLM-L6": ("bert", 384, 6, 12, 1536),
    "small ModernBERT": ("modernbert", 256, 6, 4, 384),
}
BATCHES = {  # lengths of the texts, from and to
    "32 texts of 20 to 24 tokens": (32, 20, 24),
    "32 texts of 20 to 30 tokens": (32, 20, 30),
    "32 texts of 5 to 12 tokens": (32, 5, 12),
    "32 texts of 5 to 60 tokens": (32, 5, 60),
    "8 texts of 10 to 200 tokens": (8, 10, 200),
}
TRAINED = (  # batch, heads, key heads, length, head size, causal
    (64, 6, 6, 64, 48, True),
    (16, 6, 6, 256, 16, True),
    (16, 6, 6, 256, 48, True),
    (16, 8, 8, 256, 64, True),
    (16, 8, 2, 256, 64, True),
    (16, 4, 4, 256, 128, True),
    (2, 8, 8, 2048, 64, True),
    (16, 6, 6, 256, 48, False),
)


def ratios(base: Callable[[], Tensor], other: Callable[[], Tensor]) -> list[float]:
    """Seconds of `other` over those of `base`, TURNS times, after one of each that does not count."""
    found = []
    for turn in range(TURNS + 1):
        order = (base, other) if turn % 2 else (other, base)
        spent = {}
        for action in order:
            started = time.perf_counter()
            action()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            spent[action] = time.perf_counter() - started
        if turn:
            found.append(spent[other] / spent[base])
    return found


def show(name: str, found: list[float], note: str = "") -> None:
    print(f"{name:58} {statistics.median(found):6.2f} ({min(found):.2f} to {max(found):.2f}){note}", flush=True)


def flex() -> None:
    """Kernels alone, float32 on a CPU and bfloat16 on a GPU."""
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    for length in LENGTHS:
        cases: dict[str, tuple[Mask, float | None]] = {
            "everything": (EVERYTHING, None),
            "causal": (Mask(causal=True), None),
            "causal, capped": (Mask(causal=True), 50.0),
            "causal, a window of 128": (causal_mask(0, length, 128, DEVICE), None),
            "texts of 128 in one row": (Mask(lengths=(128,) * (length // 128)), None),
        }
        query = torch.randn(1, HEADS, length, HEAD_DIM, device=DEVICE, dtype=dtype)
        key, value = (torch.randn(1, KV_HEADS, length, HEAD_DIM, device=DEVICE, dtype=dtype) for _ in range(2))
        for name, (mask, softcap) in cases.items():
            run = partial(attend, query, key, value, mask, scale=HEAD_DIM**-0.5, softcap=softcap)
            base, other = partial(run, backend="sdpa"), partial(run, backend="flex")
            torch.compiler.reset()  # it keeps eight shapes, and none should profit from another
            started = time.perf_counter()
            other()
            note = f"; compiled in {time.perf_counter() - started:.0f} s"
            show(f"flex / SDPA, {length:,} tokens: {name}", ratios(base, other), note)


def padding() -> None:
    """Whole encoders with random weights."""
    generator = torch.Generator().manual_seed(0)
    for encoder_name, (family, hidden, layers, heads, inner) in ENCODERS.items():
        extra = {"type_vocab_size": 2, "attention_bias": True, "mlp_bias": True, "num_hidden_layers": layers}
        if family == "modernbert":
            kinds = tuple(SLIDING if n % 3 else FULL for n in range(layers))
            extra = {"norm_bias": False, "layer_types": kinds, "num_hidden_layers": layers}
        sizes = {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": inner}
        config = EncoderConfig(
            model_type=family, vocab_size=1000, max_position_embeddings=512, pad_token_id=0, **sizes, **extra
        )
        encoder = Encoder(config).eval()
        for batch_name, (rows, low, high) in BATCHES.items():
            lengths = torch.randint(low, high + 1, (rows,), generator=generator).sort().values
            mask = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).long()
            ids = torch.randint(1, 1000, mask.shape, generator=generator) * mask
            base, other = (partial(encoder.hidden_states, ids, mask, unpad=unpad) for unpad in (False, True))
            share = f"; {1 - float(mask.float().mean()):.0%} is padding"
            show(f"no padding / padding, {encoder_name}, {batch_name}", ratios(base, other), share)


def step(attention: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor], grad: Tensor) -> Tensor:
    """Forward and backward."""
    return torch.autograd.grad(attention(*inputs), inputs, grad)[0]


def training() -> None:
    """Kernels alone, float32 on a CPU, inputs as projections make them; the share is of the peak in matrix products,
    six of them for each score, as utilisation counts."""
    if library().calls is None:
        return print(library().text)
    keep_memory()  # as the training loop does
    square = torch.randn(1024, 1024)
    for batch, heads, kv_heads, length, dim, causal in TRAINED:
        sizes = (heads, kv_heads, kv_heads, heads)
        *inputs, grad = (torch.randn(batch, length, count, dim).transpose(1, 2).requires_grad_() for count in sizes)
        how = {"is_causal": causal, "scale": dim**-0.5, "enable_gqa": heads != kv_heads}
        base = partial(step, partial(F.scaled_dot_product_attention, **how), inputs, grad)
        other = partial(step, partial(native_attention, causal=causal, scale=dim**-0.5), inputs, grad)
        found = ratios(base, other)
        peak = 2 * 1024**3 / fastest(lambda: square @ square)
        work = 6 * 2 * batch * heads * dim * length * ((length + 1) / 2 if causal else length)
        shares = [work / fastest(action) / peak for action in (base, other)]
        name = f"{batch} x {heads}/{kv_heads} heads of {dim}, {length:,} tokens{', causal' * causal}"
        show(f"native / SDPA, {name}", found, f"; {shares[1]:.0%} of the peak, SDPA {shares[0]:.0%}")


def fastest(action: Callable[[], Tensor]) -> float:
    """Seconds, the least of TURNS times."""
    found = []
    for _ in range(TURNS):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    wanted = sys.argv[1:] or ["flex", "training", "padding"]
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, {threads} threads, load {load:.2f}")
    print(f"PyTorch {torch.__version__}, {DEVICE}; {TURNS} turns")
    if "training" in wanted:
        training()
    with torch.inference_mode():
        if "flex" in wanted:
            flex()
        if "padding" in wanted:
            padding()


if __name__ == "__main__":
    main()
