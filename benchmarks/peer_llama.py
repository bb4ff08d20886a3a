"""llama.cpp as a peer of bench_engine.py: run by a Python that has `llama_cpp`, prints one JSON object.

    python benchmarks/peer_llama.py model.gguf --threads 2 --streams 8 --prompt 32 --new 128

Batched decode as llama.cpp's own batched bench does it (no sampling, every sequence one token a step), prefill of 512
tokens in one batch, and of 16 to the first token. Times are of `llama_decode` alone.
"""

from __future__ import annotations

import argparse
import json
import time

import llama_cpp as ll


def add(batch: ll.llama_batch, token: int, position: int, sequence: int, *, logits: bool) -> None:
    n = batch.n_tokens
    batch.token[n], batch.pos[n], batch.n_seq_id[n] = token, position, 1
    batch.seq_id[n][0], batch.logits[n] = sequence, logits
    batch.n_tokens = n + 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=128)
    options = parser.parse_args()
    silent = ll.llama_log_callback(lambda *_: None)  # kept: the library goes on calling it
    ll.llama_log_set(silent, None)
    ll.llama_backend_init()
    model = ll.llama_model_load_from_file(options.model.encode(), ll.llama_model_default_params())
    params = ll.llama_context_default_params()
    params.n_ctx = options.streams * max(1024, options.prompt + options.new)  # shared out among the sequences
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = options.streams
    params.n_threads = params.n_threads_batch = options.threads
    context = ll.llama_init_from_model(model, params)
    memory = ll.llama_get_memory(context)
    batch = ll.llama_batch_init(512, 0, 1)

    def decode() -> float:
        began = time.perf_counter()
        assert ll.llama_decode(context, batch) == 0
        ll.llama_synchronize(context)
        return time.perf_counter() - began

    def prefill(tokens: int, sequence: int = 0) -> float:
        """The last of so many tokens has logits."""
        batch.n_tokens = 0
        for position in range(tokens):
            add(batch, 5 + position % 200, position, sequence, logits=position == tokens - 1)
            if batch.n_tokens == 512 and position < tokens - 1:
                decode()
                batch.n_tokens = 0
        return decode()

    def anew(tokens: int) -> float:
        ll.llama_memory_clear(memory, True)
        return prefill(tokens)

    anew(512)
    seconds_prefill = min(anew(512) for _ in range(2))
    seconds_first = min(anew(16) for _ in range(4))
    ll.llama_memory_clear(memory, True)
    for sequence in range(options.streams):
        prefill(options.prompt, sequence)
    total = 0.0
    for step in range(options.new):
        batch.n_tokens = 0
        for sequence in range(options.streams):
            add(batch, 7 + step % 100, options.prompt + step, sequence, logits=True)
        total += decode()
    rates = {"decode": options.streams * options.new / total, "prefill": 512 / seconds_prefill}
    rates["first"] = 16 / seconds_first
    print(json.dumps(rates | {"version": ll.__version__}))


if __name__ == "__main__":
    main()
