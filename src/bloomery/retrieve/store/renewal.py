"""Renewal: an index made anew in a folder of its own inside the old one's, and put in its place at the end.

What takes the old one's place is one commit of SQLite: the new tables are copied over the old ones in one transaction,
after the new vectors lie beside the old, under the name of a generation that the old tables do not know. A process that
is killed at any instant leaves the old index or the new one, whole; searches go on meanwhile. This module does not know
what is put into an index.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from bloomery.core.artifact import fsync
from bloomery.core.errors import ArtifactError
from bloomery.core.locks import FileLock
from bloomery.retrieve.store.config import IndexConfig
from bloomery.retrieve.store.schema import FILE, Counters, Tables, read_counters
from bloomery.retrieve.store.writer import LOCK, Writer, busy, generation_files

BESIDE = "anew"
"""The folder inside an index's that holds the new one until it is whole."""


class Renewal:
    """`writer` fills the new index; `finish` puts it in the old one's place, `close` without it leaves the old one.
    ArtifactError where another process writes to the old one."""

    def __init__(self, folder: Path, config: IndexConfig) -> None:
        self.folder = folder
        self._beside = folder / BESIDE
        self._lock = FileLock(folder / LOCK)
        if not self._lock.try_acquire():
            raise busy(folder)
        try:
            shutil.rmtree(self._beside, ignore_errors=True)  # what a killed one has left
            old = _counters(folder)
            self._opens = old is not None
            old = old or Counters()
            # Above all that the old one has given out, so that no reader takes the one for the other.
            begun = Counters(version=old.version + 1, generation=old.generation + 1)
            self.writer = Writer(self._beside, config, begin=begun)
        except BaseException:
            self._lock.release()
            raise

    def finish(self) -> None:
        """The new index in the old one's place."""
        self.writer.close()
        with closing(Tables(self._beside, create=False)) as new:
            with new.reading() as db:
                counters = read_counters(db)
            for path in generation_files(self.folder):  # what a killed renewal has left
                if f"-{counters.generation:06}." in path.name:
                    path.unlink(missing_ok=True)
            for path in generation_files(self._beside):
                path.replace(self.folder / path.name)
            fsync(self.folder)
            if self._opens:
                with closing(Tables(self.folder, create=False)) as old:
                    new.copy_over(old)
        if not self._opens:  # no index that could be lost
            for name in (f"{FILE}-wal", f"{FILE}-shm"):
                (self.folder / name).unlink(missing_ok=True)
            (self._beside / FILE).replace(self.folder / FILE)
            fsync(self.folder)
        for path in generation_files(self.folder, but=counters.generation):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self.writer.close()
        shutil.rmtree(self._beside, ignore_errors=True)
        self._lock.release()


def _counters(folder: Path) -> Counters | None:
    """Of the index in a folder; None for one that cannot be opened."""
    try:
        with closing(Tables(folder, create=False)) as tables, tables.reading() as db:
            return read_counters(db)
    except ArtifactError:
        return None
