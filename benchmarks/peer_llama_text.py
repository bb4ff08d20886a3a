"""llama.cpp's log-probabilities of given tokens: run by a Python that has `llama_cpp`, for bench_formats.py.

    python benchmarks/peer_llama_text.py model.gguf rows.json out.json

rows.json holds lists of token ids; out.json gets, for each, the natural logarithm of the probability of every token but
the first, given those before it. Each row is read in one batch, by itself, as llama.cpp computes by default.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import llama_cpp as ll
import numpy as np


def main() -> None:
    gguf, source, target = sys.argv[1:]
    rows = json.loads(Path(source).read_text())
    silent = ll.llama_log_callback(lambda *_: None)  # kept: the library goes on calling it
    ll.llama_log_set(silent, None)
    ll.llama_backend_init()
    model = ll.llama_model_load_from_file(gguf.encode(), ll.llama_model_default_params())
    longest = max(map(len, rows))
    params = ll.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(32, longest)
    params.n_seq_max = 1
    params.n_threads = params.n_threads_batch = os.cpu_count() or 1
    context = ll.llama_init_from_model(model, params)
    size = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    batch = ll.llama_batch_init(longest, 0, 1)
    found = []
    for row in rows:
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        batch.n_tokens = len(row)
        for place, token in enumerate(row):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, True
        assert ll.llama_decode(context, batch) == 0
        logits = np.ctypeslib.as_array(ll.llama_get_logits(context), shape=(len(row), size))[:-1].astype(np.float64)
        top = logits.max(axis=1)
        logs = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        found.append((logits[np.arange(len(row) - 1), row[1:]] - logs).tolist())
    Path(target).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
