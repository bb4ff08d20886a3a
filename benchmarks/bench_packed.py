"""Packed weights: each format's speed over plain float32, at 1, 8 and 512 rows; random weights of two Llama shapes.

For each shape (15M and 135M parameters) the linear layers of one pass over the model, as `models.packing` groups
them, and whole steps of the decoder: one token of one sequence, one token of eight, and a prompt of 512. All formats
are taken in turn, several rounds, the first of which warms up; a format's ratio to plain float32 is taken within each
round, and the median of the ratios is printed with the least and the largest. Arguments: 15M, 135M (default: both);
--rounds N.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bloomery.models import Decoder, KVCache, ModelConfig
from bloomery.models.packed import CPU_FORMATS
from bloomery.models.packed_choice import PLAIN, choose, shared_copy
from bloomery.models.packing import pack

SHAPES = {
    "15M": ModelConfig(
        model_type="llama",
        vocab_size=32_000,
        hidden_size=288,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=48,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    ),
    "135M": ModelConfig(
        model_type="llama",
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    ),
}
PAST = 64
"""Tokens in the cache before a step."""
STEPS = 8
ROUNDS = 7


def random_decoder(config: ModelConfig) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(config).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.ndim == 2:
            parameter.normal_(0.0, 0.02)
    return decoder


def linear_layers(decoder: Decoder) -> Callable[[int], float]:
    """Seconds of all linear layers of one pass at so many rows; the head sees eight of them at most."""
    layers = [layer for block in decoder.model.layers for layer in _of(block)]

    def run(rows: int) -> float:
        inputs = {size: torch.randn(rows, size) for size in (decoder.config.hidden_size, _inner(decoder))}
        inputs[decoder.config.intermediate_size] = torch.randn(rows, decoder.config.intermediate_size)
        last = inputs[decoder.config.hidden_size][:8]
        started = time.perf_counter()
        for layer, size in layers:
            layer(inputs[size])
        decoder.logits(last)
        return time.perf_counter() - started

    return run


def _inner(decoder: Decoder) -> int:
    return decoder.config.num_attention_heads * decoder.config.head_dim


def _of(block: torch.nn.Module) -> list[tuple[Callable[[Tensor], Tensor], int]]:
    attention, mlp = block.self_attn, block.mlp
    hidden = mlp.down_proj.out_features
    inner = attention.o_proj.in_features
    layers = [(getattr(attention, name), hidden) for name in ("q_proj", "v_proj", "k_proj")]
    layers += [(attention.o_proj, inner), (mlp.gate_proj, hidden), (mlp.up_proj, hidden)]
    return [*layers, (mlp.down_proj, mlp.down_proj.in_features)]


def steps(decoder: Decoder, rows: int) -> float:
    """Seconds of one step: of `rows` sequences, or, from 512 on, of one prompt that long."""
    config = decoder.config
    if rows >= 512:
        ids = torch.randint(0, config.vocab_size, (1, rows))
        cache = KVCache(config, 1, rows)
        started = time.perf_counter()
        decoder(ids, cache=cache, last_only=True)
        return time.perf_counter() - started
    ids = torch.randint(0, config.vocab_size, (rows, PAST + STEPS))
    cache = KVCache(config, rows, PAST + STEPS)
    decoder(ids[:, :PAST], cache=cache, last_only=True)
    started = time.perf_counter()
    for n in range(PAST, PAST + STEPS):
        decoder(ids[:, n : n + 1], cache=cache, last_only=True)
    return (time.perf_counter() - started) / STEPS


def compare(name: str, rounds: int) -> None:
    plain = random_decoder(SHAPES[name])
    models = {PLAIN: plain}
    for kind in CPU_FORMATS:
        models[kind] = shared_copy(plain)
        started = time.perf_counter()
        done = pack(models[kind], kind)
        seconds = time.perf_counter() - started
        print(
            f"{name} {kind}: {done.bytes:,} bytes, packed in {seconds:.1f} s"
            + "".join(map("\n  {}".format, done.fallbacks))
        )
    for what in ("linear layers", "steps"):
        for rows in (1, 8, 512):
            times: dict[str, list[float]] = {kind: [] for kind in models}
            for round_ in range(rounds + 1):
                for kind in sorted(models, reverse=bool(round_ % 2)):
                    run = linear_layers(models[kind]) if what == "linear layers" else None
                    seconds = run(rows) if run else steps(models[kind], rows)
                    if round_:
                        times[kind].append(seconds)
            base = times[PLAIN]
            print(f"{name}, {what}, {rows} rows: plain float32 median {statistics.median(base) * 1e3:.2f} ms")
            for kind in CPU_FORMATS:
                ratios = [one / other for one, other in zip(base, times[kind], strict=True)]
                print(f"  {kind:<17} {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")
    started = time.perf_counter()
    _, choice = choose(plain)
    speeds = ", ".join(f"{kind} {value:.2f}x" for kind, value in choice.speedup.items())
    losses = ", ".join(f"{kind} {value:.2g}" for kind, value in choice.loss_nats.items())
    print(f"{name}, auto: {choice.format} in {time.perf_counter() - started:.1f} s; {speeds}; nats: {losses or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []])  # older argparse looks for []
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs ({torch.backends.cpu.get_cpu_capability()}),"
        f" {torch.get_num_threads()} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.2f};"
        f" {arguments.rounds} rounds in turn"
    )
    with torch.inference_mode():
        for name in arguments.shapes or SHAPES:
            compare(name, arguments.rounds)


if __name__ == "__main__":
    main()
