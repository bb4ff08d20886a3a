"""Spill: records of a key and a number, on disk, brought together by key in bounded memory.

    spill.write(records_of(keys, numbers))                  # to the files of the partitions that the keys fall in
    for firsts, others in groups(files, scratch): ...       # of one partition: of each key the least number, another

A partition holds every record of its keys, so that each is worked on alone, anywhere and in any order, and what comes
out does not depend on the order in which the records came in. This module does not know what keys and numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RECORD = np.dtype([("key", "<u8"), ("number", "<u8")])
PARTITION_BITS = 6
PARTITIONS = 1 << PARTITION_BITS
SORTED_RECORDS = 1 << 22  # 64 MiB; bringing them together takes about three times that
_READ_RECORDS = 1 << 20

Records = NDArray[np.void]
Numbers = NDArray[np.uint64]


def records_of(keys: NDArray[np.uint64], numbers: NDArray[np.integer]) -> Records:
    """(N,) records; `numbers` is broadcast to the shape of the keys."""
    records = np.empty(keys.shape, RECORD)
    records["key"], records["number"] = keys, numbers
    return records.ravel()


def partition_file(folder: Path, partition: int) -> Path:
    """Where a spill in this folder keeps a partition; not there if it is empty."""
    return folder / f"{partition:02}.records"


class Spill:
    """Records appended to a file for each partition of their keys' highest bits, in a folder of its own.

    Several may be written at once, each to its own folder; a partition is read from all of them. `skip` leaves out that
    many of the highest bits, which all keys share (a partition that is divided further).
    """

    def __init__(self, folder: Path, *, skip: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        self._folder, self._shift = folder, np.uint64(64 - PARTITION_BITS - skip)

    def write(self, records: Records) -> None:
        places = ((records["key"] >> self._shift) & np.uint64(PARTITIONS - 1)).astype(np.uint8)
        ordered = records[np.argsort(places, kind="stable")]
        ends = np.cumsum(np.bincount(places, minlength=PARTITIONS))
        for partition, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > start:
                with partition_file(self._folder, partition).open("ab") as stream:
                    stream.write(ordered[start:end].tobytes())


def read_records(files: Iterable[Path]) -> Iterator[Records]:
    """The records of some files, a bounded number at a time; a file that is not there holds none."""
    for path in files:
        if path.exists():
            with path.open("rb") as stream:
                while data := stream.read(_READ_RECORDS * RECORD.itemsize):
                    yield np.frombuffer(data, RECORD)


def groups(files: Iterable[Path], scratch: Path) -> Iterator[tuple[Records, bool]]:
    """The records of one partition in parts of a bounded size, and whether a part holds all the records of its keys.

    A partition that is too large to sort in memory is divided by the next bits of the keys, in `scratch`, as often as
    it takes. Where one key alone has too many records, they come in several parts (False), the least number first in
    each of them.
    """
    yield from _groups([path for path in files if path.exists()], scratch, PARTITION_BITS)


def _groups(files: list[Path], scratch: Path, skip: int) -> Iterator[tuple[Records, bool]]:
    if sum(path.stat().st_size for path in files) <= SORTED_RECORDS * RECORD.itemsize:
        parts = list(read_records(files))
        if parts:
            yield np.concatenate(parts), True
        return
    low, high, least = (1 << 64) - 1, 0, (1 << 64) - 1
    for records in read_records(files):
        low, high = min(low, int(records["key"].min())), max(high, int(records["key"].max()))
        least = min(least, int(records["number"].min()))
    if low == high:
        first = records_of(np.full(1, low, np.uint64), np.full(1, least, np.uint64))
        for records in read_records(files):
            yield np.concatenate([first, records]), False
        return
    folder = scratch / f"divided-{skip}"
    skip = min(skip, 64 - PARTITION_BITS)
    spill = Spill(folder, skip=skip)
    for records in read_records(files):
        spill.write(records)
    for partition in range(PARTITIONS):
        path = partition_file(folder, partition)
        if path.exists():
            yield from _groups([path], scratch, skip + PARTITION_BITS)
            path.unlink()


def firsts_of(records: Records) -> tuple[Numbers, Numbers]:
    """Of each record of a key that others have too: (the least number of that key, its own number), but the least's.

    A number that has a key more than once counts once.
    """
    records = records[np.argsort(records["key"], kind="stable")]
    keys, numbers = records["key"], records["number"]
    if not len(keys):
        return numbers, numbers
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    least = np.repeat(np.minimum.reduceat(numbers, begins), np.diff(begins, append=len(keys)))
    others = numbers != least
    return least[others], numbers[others]
