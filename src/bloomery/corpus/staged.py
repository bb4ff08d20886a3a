"""StagedDocuments: documents that wait on disk for the last of them, in shards that can be worked on apart.

This module does not know what they wait for.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.document import ID_DIGITS, Document
from bloomery.corpus.shards import SplitWriter, read_folder

SHARD_BYTES = 64 * 1024 * 1024


class StagedDocuments:
    """Write with `stage`, once; then `read` gives them again, in order, and deletes each shard that it has read."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made empty."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.counts: list[int] = []
        """Documents of each shard."""
        self._ids: NDArray[np.bytes_] | None = None

    def stage(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, each written as it goes by."""
        with (self.folder / "ids").open("wb") as ids, ExitStack() as shards:
            writer: SplitWriter | None = None
            for document in documents:
                if writer is None or writer.text_bytes >= SHARD_BYTES:
                    shards.close()
                    name = self.shard(len(self.counts))
                    writer = shards.enter_context(SplitWriter(self.folder, name, shard_bytes=1 << 60, level=1))
                    self.counts.append(0)
                writer.write(document)
                ids.write(document.id.encode().ljust(ID_DIGITS)[:ID_DIGITS])
                self.counts[-1] += 1
                yield document

    @staticmethod
    def shard(number: int) -> str:
        """The name that the files of a shard begin with."""
        return f"shard{number:06}"

    @property
    def starts(self) -> list[int]:
        """(shards + 1) the number of the first document of each shard, and how many there are."""
        return np.cumsum([0, *self.counts]).tolist()

    def id_of(self, number: int) -> str:
        """The id of a document by its number."""
        if self._ids is None:
            self._ids = np.memmap(self.folder / "ids", f"S{ID_DIGITS}", mode="r")
        return self._ids[number].decode().strip()

    def read(self) -> Iterator[Document]:
        for number in range(len(self.counts)):
            yield from read_folder(self.folder, self.shard(number))
            for path in self.folder.glob(f"{self.shard(number)}-*"):
                path.unlink()

    def close(self) -> None:
        """Delete what is left."""
        self._ids = None
        shutil.rmtree(self.folder, ignore_errors=True)
