"""Reference: what the model said before it was trained, found once and kept, so that no second model is in memory.

A file in a run's scratch folder holds the log-probabilities; a resumed run, whose model has moved on, reads them there.
This module does not know losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.preference.pairs import completion_logprobs
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.models import Decoder
from bloomery.models.weights import write_tensors
from bloomery.training.objective import evaluating

FILE = "reference.safetensors"
_TOKENS_A_BATCH = 8192


def reference_logprobs(model: Decoder, completions: Sequence[Completion], run: Run, *, pad_id: int = 0) -> list[float]:
    """Log-probability in nats of each completion under `model` as it is now, or as it was when the run first began.

    Exact in float32 whatever the precision of training. DataError if what was kept is of other data.
    """
    path = run.scratch / FILE
    if path.is_file():
        return _kept(path, len(completions))
    order = sorted(range(len(completions)), key=lambda number: len(completions[number]))
    found = np.zeros(len(completions), dtype=np.float32)
    done = 0
    with evaluating(model):
        while done < len(order):
            rows = 1
            while done + rows < len(order) and len(completions[order[done + rows]]) * (rows + 1) <= _TOKENS_A_BATCH:
                rows += 1
            chosen = order[done : done + rows]
            found[chosen] = completion_logprobs(model, [completions[number] for number in chosen], pad_id=pad_id)
            done += rows
            run.progress(done, len(order), unit="completions", doing="what the reference says")
    partial = path.with_suffix(".partial")
    write_tensors({"logprobs": torch.from_numpy(found)}, partial)
    partial.replace(path)
    return found.tolist()


def _kept(path: Path, count: int) -> list[float]:
    from safetensors.torch import load_file

    kept = load_file(path)["logprobs"]
    if len(kept) != count:
        raise DataError(f"{path} is of other data", hint="begin anew with --fresh")
    return kept.tolist()
