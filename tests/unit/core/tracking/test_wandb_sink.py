"""What is told is in the file that Weights & Biases keeps when it is offline, read by its own message types."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.tracking import TrackConfig, open_trackers
from bloomery.core.workspace import Workspace

pytest.importorskip("wandb")
_BLOCK = 32768


def _records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log format: blocks of 32 KiB with pieces of (CRC 4, length 2, kind 1: full, first, middle, last)."""
    at, held = 7, b""  # W&B's own header
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield held
            held = b""


def test_its_own_reader_reads_it(tmp_path, monkeypatch):
    from wandb.proto import wandb_internal_pb2

    for name, value in (("WANDB_MODE", "offline"), ("WANDB_DIR", str(tmp_path)), ("WANDB_DISABLE_CODE", "true")):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    workspace = Workspace(tmp_path)
    workspace.listeners = tuple(open_trackers(TrackConfig(sinks=("wandb",), project="iron"), workspace.root))
    with Run(workspace, StageInputs(stage="pretrain", config={"steps": 3})) as run:
        for step in (1, 2, 1, 2):  # a run that went back tells a step again
            run.event("curve", step=step, loss=5.0 - step, smooth_loss=4.0, gradient_norm=1.0, rate=1.0, tokens=step)
    (path,) = (tmp_path / "tracking" / "wandb").rglob("*.wandb")
    rows, begun = [], None
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            rows.append((items["step"], items.get("loss")))
        elif record.WhichOneof("record_type") == "run":
            begun = record.run
    assert begun is not None and (begun.display_name, begun.project) == (run.id, "iron")
    assert [row for row in rows if row[1] is not None] == [(1, 4.0), (2, 3.0), (1, 4.0), (2, 3.0)]
