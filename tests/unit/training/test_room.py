"""Room: what is counted is what PyTorch allocates, and what is free is what the system says."""

from __future__ import annotations

import psutil
import pytest
import torch

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.models.classifiers import MeanTextClassifier, MeanTextConfig
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader
from bloomery.training.loop import Loop, LoopConfig
from bloomery.training.objective import accumulate
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.room import Room, free_memory, room
from bloomery.training.schedule import Schedule

CPU = torch.device("cpu")


@pytest.fixture
def loop(tmp_path):
    texts = [LabelledText(list(range(1, 9)), i % 2) for i in range(64)]
    torch.manual_seed(0)
    net = MeanTextClassifier(MeanTextConfig(vocab_size=500, dropout=0.0))
    objective = ClassificationObjective(net, ExampleLoader(texts, [], rows=8, seed=0), TextReader(0), seed=0)
    with Run(Workspace(tmp_path), StageInputs(stage="test", config={})) as run:
        yield Loop(
            run,
            objective,
            Optimizers(net, OptimizerConfig(), muon=False),
            Schedule(total_steps=4, warmup_steps=0, decay_steps=0),
            LoopConfig(validate_every_steps=0, validation_batches=0, checkpoint_seconds=1e9),
            batch_rows=8,
            micro_rows=4,
            precision="float32",
            device=CPU,
        )


def test_gradients_and_state_are_what_a_step_allocates(loop):
    batch = loop.objective.next_batch(8)
    needed = room(loop, batch)
    accumulate(loop.objective, batch, 4, CPU, "float32")
    gradients = sum(p.grad.nbytes for p in loop.model.parameters())
    loop.optimizers.step(1.0)
    state = sum(t.nbytes for name, t in loop.optimizers.state_tensors().items() if not name.endswith(".step"))
    assert needed.fixed_bytes == gradients + state
    assert needed.checkpoint_bytes == sum(p.nbytes for p in loop.model.parameters()) + state
    assert loop.save()
    (saved,) = loop.checkpoints.glob("step-*")
    on_disk = sum(path.stat().st_size for path in saved.glob("*.safetensors"))
    assert needed.checkpoint_bytes == pytest.approx(on_disk, rel=0.05)  # headers and step counters


def test_activations_grow_with_rows(loop):
    """What is kept of one row is what PyTorch's hooks see of four, a quarter of it, labels and counts aside."""
    batch = loop.objective.next_batch(8)
    one = room(loop, batch).row_bytes
    seen: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in loop.model.parameters()}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loop.objective.loss({k: torch.from_numpy(v[:4]) for k, v in batch.arrays.items()})
    assert float(loss.detach()) > 0 and one == pytest.approx(sum(seen.values()) / 4, rel=0.2)


def test_rows_that_fit():
    needed = Room(
        fixed_bytes=100, row_bytes=10, rows=8, free_bytes=160, checkpoint_bytes=1, disk_bytes=1, free_disk_bytes=1
    )
    assert needed.memory_bytes == 196 and needed.rows_that_fit == 5


def test_free_memory(tmp_path):
    there = psutil.virtual_memory()
    assert 0 < free_memory(CPU, cgroup=tmp_path) <= there.total
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert free_memory(CPU, cgroup=tmp_path) == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU, cgroup=tmp_path) > 5_000_000
