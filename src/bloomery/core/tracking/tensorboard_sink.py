"""TensorBoard: a folder of event files for each run, `tensorboard --logdir .bloomery/tracking/tensorboard`.

This module does not know runs or their events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bloomery.core.tracking.tracker import Begin

_MESSAGES = ("event", "summary", "tensor", "types")


class _Run:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # Their names are made when they are imported, which no checker sees.
        event, summary, tensor, kinds = (import_module(f"tensorboard.compat.proto.{name}_pb2") for name in _MESSAGES)
        self._event, self._summary, self._metadata = event.Event, summary.Summary, summary.SummaryMetadata
        self._tensor, self._string = tensor.TensorProto, kinds.DT_STRING
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
