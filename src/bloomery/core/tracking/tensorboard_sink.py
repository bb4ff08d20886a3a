"""TensorBoard: a folder of event files for each run, `tensorboard --logdir .bloomery/tracking/tensorboard`.

This module does not know runs or their events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bloomery.core.tracking.tracker import Begin


class _Run:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._metadata, self._tensor, self._string = (
            summary_pb2.SummaryMetadata,
            tensor_pb2.TensorProto,
            types_pb2.DT_STRING,
        )
        self._writer = EventFileWriter(str(folder))
        self.text(0, json.dumps(config, indent=1, ensure_ascii=False), 0.0, tag="config")

    def scalars(self, step: int, values: Mapping[str, float], time: float) -> None:
        made = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(self._event(wall_time=time, step=step, summary=self._summary(value=made)))

    def text(self, step: int, text: str, time: float, *, tag: str = "notes") -> None:
        plugin = self._metadata.PluginData(plugin_name="text")
        tensor = self._tensor(dtype=self._string, string_val=[text.encode("utf-8", "backslashreplace")])
        value = self._summary.Value(tag=tag, tensor=tensor, metadata=self._metadata(plugin_data=plugin))
        self._writer.add_event(self._event(wall_time=time, step=step, summary=self._summary(value=[value])))

    def close(self, state: str) -> None:
        self._writer.close()


def begin(folder: Path, project: str) -> Begin:
    """Runs go into folders of `folder` that have their names; TensorBoard has no projects."""
    return lambda run, stage, config: _Run(folder / run, config)
