"""Room: the memory and disk that a training run needs, against what is there.

Gradients and optimiser state are counted; what a row's activations take is measured, by the tensors that the backward
pass would keep of one row. Of several ranks each has its own part of all that, and ranks of one machine have its memory
between them. Temporary results inside an operation are not seen: a fifth is added for them. This module
does not know plans or budgets.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor, UntypedStorage

from bloomery.training.objective import Batch, part_of, placed, precision_context

if TYPE_CHECKING:
    from bloomery.training.loop import Loop

_STATE = {"muon": 1}
"""Tensors of state for each parameter; AdamW, and whatever is not listed, has two."""
_TEMPORARY = 1.2
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Room:
    """Bytes. `fixed_bytes` are gradients and optimiser state, `row_bytes` the activations of one row."""

    fixed_bytes: int
    row_bytes: int
    rows: int
    free_bytes: int
    checkpoint_bytes: int
    disk_bytes: int
    free_disk_bytes: int

    def to_dict(self) -> dict[str, int]:
        """As plain data."""
        return dict(vars(self))

    @property
    def memory_bytes(self) -> int:
        return self.fixed_bytes + int(_TEMPORARY * self.rows * self.row_bytes)

    @property
    def rows_that_fit(self) -> int:
        """Rows at a time for which there is memory; 0 if there is none for one."""
        return max(0, int((self.free_bytes - self.fixed_bytes) / max(1.0, _TEMPORARY * self.row_bytes)))


def room(loop: Loop, batch: Batch) -> Room:
    """What a loop that has not begun needs beyond what it holds, and what is free on its device and disk."""
    ranks, named = loop.ranks, loop.optimizers.named.values()
    trained = sum(_size(p) for p in named)
    groups = [(label, group["params"]) for label, part in loop.optimizers.parts.items() for group in part.param_groups]
    kept = {id(p): _STATE.get(label, 2) for label, params in groups for p in params}
    state = sum(kept.get(id(p), 1) * _size(p) for p in named)  # what is another rank's is a matrix of Muon's
    own = sum(_size(local(p)) for p in named)
    own += sum(_STATE.get(label, 2) * sum(_size(local(p)) for p in params) for label, params in groups)
    whole = sum(_size(p) for p in loop.model.parameters())
    checkpoint = trained + state
    # The kept ones, two to go back to, the one that is being written; the best weights; what is published.
    copies = loop.config.keep_checkpoints + 3
    best = 2 * trained if loop.config.keep_best else 0
    rows = loop.micro_rows if loop.objective.divisible else batch.rows
    return Room(
        fixed_bytes=own,
        row_bytes=_row_bytes(loop, batch),
        rows=min(rows, -(-batch.rows // ranks.batch_ranks)),
        free_bytes=free_memory(loop.device) // ranks.sharing(loop.device),
        checkpoint_bytes=checkpoint,
        disk_bytes=copies * checkpoint + best + whole,
        free_disk_bytes=shutil.disk_usage(loop.run.scratch).free if ranks.leads else 0,
    )


def free_memory(device: torch.device, *, cgroup: Path = _CGROUP) -> int:
    """Bytes that this process could still take: the GPU's, or the machine's and those of its control group."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = psutil.virtual_memory().available
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cache = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        if limit != "max":  # the page cache counts as used, but is given up when there is need
            free = min(free, int(limit) - int(used) + int(cache.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    return max(0, free)


def _row_bytes(loop: Loop, batch: Batch) -> int:
    """Bytes that the backward pass keeps of one row, or of a whole batch divided by its rows. Ranks compute one each,
    together: none can go forward alone where weights are sharded."""
    objective, ranks = loop.objective, loop.ranks
    rows = ranks.batch_ranks if objective.divisible else batch.rows
    own = {local(p).untyped_storage().data_ptr() for p in objective.model.parameters()}
    kept: dict[int, UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = local(tensor).untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    part = Batch(arrays=part_of(batch.arrays, slice(0, rows)), weight=batch.weight, items=batch.items)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if ranks.size > 1:
            ranks.accumulate(objective, part, 1 if objective.divisible else rows, loop.device, loop.precision)
        else:
            inputs = placed(objective, part.arrays, loop.device)
            with precision_context(loop.device, loop.precision):
                objective.loss(inputs)
    objective.model.zero_grad(set_to_none=True)
    # Weights that were collected for a layer and let go again have no size any more.
    return sum(storage.nbytes() for storage in kept.values()) // (rows // ranks.batch_ranks)


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor that may be sharded (a DTensor)."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[attr-defined]


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
