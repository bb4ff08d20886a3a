"""Batch stages: cut, filter, scrub, each a function from a batch of records to a batch, in their order.

They know one record at a time, so that batches may be of any size and be worked on anywhere: in the workers that read,
in this process, or on Ray, with the same result. What is no document passes through. This module does not know where
records come from, nor what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, cut_text
from bloomery.corpus.filter import Filter
from bloomery.corpus.personal import Scrubber
from bloomery.corpus.record import Record

Batch = list[Record]
Stage = Callable[[Batch], Batch]


def batch_stages(config: CurateConfig, tables: Path) -> list[Stage]:
    """The stages that the config asks for. Tables that rules look into lie in the folder `tables`.

    ConfigError, DataError or MissingExtraError for lists, tables and libraries that are not there.
    """
    stages: list[Stage] = []
    scrubber = Scrubber(config.personal) if config.personal.active else None
    if config.cut_characters:
        stages.append(lambda batch: cut(batch, config.cut_characters))
    if config.filter.active:
        judge = Filter(config.filter, tables=tables, clean=scrubber.clean if scrubber else str)
        stages.append(lambda batch: [judge.judged(record) for record in batch])
    if scrubber:
        stages.append(lambda batch: [scrubber.scrubbed(record) for record in batch])
    return stages


def through(batch: Batch, stages: list[Stage]) -> Batch:
    """The batch through all of them."""
    for stage in stages:
        batch = stage(batch)
    return batch


def cut(batch: Batch, limit: int) -> Batch:
    """Longer documents in pieces of about `limit` characters."""
    made: Batch = []
    for record in batch:
        if record.kind != "document" or len(record.text) <= limit:
            made.append(record)
            continue
        for part, text in enumerate(cut_text(record.text, limit)):
            metadata = {**record.metadata, "cut": part}
            made.append(replace(record).put(Document.of(text, record.source, metadata)))
    return made
