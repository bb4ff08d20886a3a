"""LoRA adapters by request: eight streams with none, with one and with eight adapters, and peft beside; in turn.

    python benchmarks/bench_adapters.py [--size 15M] [--rank 16] [--weights plain] [--pairs 5]

Random weights of Llama's architecture and random adapters on every linear layer, the same for both. peft generates the
same number of tokens with `adapter_names`, which mixes adapters in a batch, by transformers' `generate` (prefill of 32
tokens included, which is little beside 64 of decode). Prints the median ratio over pairs, and its lowest and highest.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_HERE = Path(__file__).parent
_ENGINE = runpy.run_path(str(_HERE / "bench_engine.py"), run_name="bench_engine")
make_folder: Callable[[Path, str], Path] = _ENGINE["make_folder"]
make_tiny_adapter = runpy.run_path(str(_HERE.parent / "tests" / "tiny_adapter.py"))["make_tiny_adapter"]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
STREAMS, PROMPT, NEW = 8, 32, 64


class Ours:
    """The engine, its adapters loaded."""

    def __init__(self, folder: Path, adapters: list[Path], weights: str) -> None:
        from bloomery.engine import load_language_model

        self.model = load_language_model(folder, device="cpu", weights=weights)
        for path in adapters:
            self.model.load_adapter(path)
        self.names = [path.name for path in adapters]

    def speed(self, count: int) -> float:
        """Decode tokens a second of all streams, with so many adapters among them."""
        requests = []
        for stream in range(STREAMS):
            one = self.model.adapted(self.names[stream % count]) if count else self.model
            options: dict[str, Any] = {"max_new_tokens": NEW, "temperature": 0.0, "ignore_eos": True}
            ids = [5 + stream, *range(6, 5 + PROMPT)]
            requests.append(one.request(ids, [options], shares=False))  # type: ignore[list-item]
        results = [delta.result for _, delta in self.model.engine.run_all(requests) if delta.result is not None]
        return STREAMS * (NEW - 1) / max(one.timings.decode_seconds for one in results)


class Peft:
    """peft on transformers."""

    def __init__(self, folder: Path, adapters: list[Path]) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = PeftModel.from_pretrained(base, str(adapters[0]), adapter_name=adapters[0].name).eval()
        for path in adapters[1:]:
            self.model.load_adapter(str(path), adapter_name=path.name)
        self.names = [path.name for path in adapters]

    @torch.inference_mode()
    def speed(self, count: int) -> float:
        ids = torch.tensor([[5 + stream, *range(6, 5 + PROMPT)] for stream in range(STREAMS)])
        names = [self.names[stream % count] for stream in range(STREAMS)]
        options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        began = time.perf_counter()
        self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), adapter_names=names, **options)
        return STREAMS * NEW / (time.perf_counter() - began)


def report(what: str, ratios: list[float]) -> None:
    print(f"{what:<44}{statistics.median(ratios):6.2f}  ({min(ratios):.2f} .. {max(ratios):.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="15M", choices=("15M", "135M"))
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--weights", default="plain")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = make_folder(Path(home), given.size)
        options = {"rank": given.rank, "targets": TARGETS, "scale": 0.02}
        adapters = [make_tiny_adapter(Path(home) / f"a{n}", folder, seed=n, **options) for n in range(STREAMS)]
        ours, theirs = Ours(folder, adapters, given.weights), Peft(folder, adapters)
        ours.speed(8), theirs.speed(8)  # warm
        runs = [(ours.speed(0), ours.speed(1), ours.speed(8), theirs.speed(8)) for _ in range(given.pairs)]
    print(f"{STREAMS} streams, {given.size}, rank {given.rank}, {given.weights}, {torch.get_num_threads()} threads")
    report("one adapter for all / no adapter", [one / none for none, one, _, _ in runs])
    report("eight adapters / no adapter", [eight / none for none, _, eight, _ in runs])
    report("eight adapters / peft with adapter_names", [eight / peft for _, _, eight, peft in runs])


if __name__ == "__main__":
    main()
