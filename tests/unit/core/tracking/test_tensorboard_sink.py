"""What is written is what TensorBoard's own reader gives back."""

from __future__ import annotations

import json

import pytest

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.tracking import TrackConfig, open_trackers
from bloomery.core.workspace import Workspace

pytest.importorskip("tensorboard")


def test_its_own_reader_reads_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workspace = Workspace(tmp_path)
    workspace.listeners = tuple(open_trackers(TrackConfig(sinks=("tensorboard",)), workspace.root))
    curve = {step: 5.0 / step for step in range(1, 30)}
    with Run(workspace, StageInputs(stage="pretrain", config={"steps": 29, "text": "für"})) as run:
        for step, loss in curve.items():
            run.event("curve", step=step, loss=loss, smooth_loss=loss, gradient_norm=1.0, rate=1.0, tokens=step)
        run.metrics({"validation_bits_per_byte": 1.5}, step=29)
        run.note("ein Hinweis: 50 %")
    read = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / run.id))
    read.Reload()
    assert {e.step: e.value for e in read.Scalars("loss")} == {s: pytest.approx(v, rel=1e-6) for s, v in curve.items()}
    (bits,) = read.Scalars("validation_bits_per_byte")
    assert (bits.step, bits.value) == (29, 1.5)
    texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    assert texts["notes"] == "ein Hinweis: 50 %" and json.loads(texts["config"])["text"] == "für"
    assert read.SummaryMetadata("notes").plugin_data.plugin_name == "text"
