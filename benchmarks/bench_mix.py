"""Shuffling on disk: rate and peak memory for 64 to 1,024 MB of rows through a bucket of 32 MB, then all in memory.

Processor time of this process is taken, so that other processes do not count. Memory is what the process grew by at its
highest, each size in a process of its own: with buckets it should stay where it is while the rows grow.

python benchmarks/bench_mix.py
"""

from __future__ import annotations

import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bloomery.corpus.shuffle import row_key, shuffled

ROW_BYTES = 4096
BUCKET_BYTES = 32 * 1024 * 1024
MIB = 1024 * 1024


def rows(megabytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Rows of random lengths, 4 KB on average."""
    rng = random.Random(0)
    made = 0
    while made < megabytes * MIB:
        content = b"x" * rng.randint(1, 2 * ROW_BYTES)
        yield row_key(0, made.to_bytes(8, "big")), content
        made += len(content)


def one(megabytes: int, bucket_bytes: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        size = sum(
            len(line)
            for line in shuffled(rows(megabytes), Path(folder), size=megabytes * MIB, bucket_bytes=bucket_bytes)
        )
    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    where = f"buckets of {bucket_bytes // MIB} MB" if bucket_bytes < size else "in memory"
    print(
        f"{size / 1e6:8,.0f} MB  {where:20}  {size / 1e6 / seconds:6.0f} MB/s  {grown:6.0f} MB more memory", flush=True
    )


def main() -> None:
    if len(sys.argv) == 3:
        return one(int(sys.argv[1]), int(sys.argv[2]))
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}", flush=True)
    for megabytes, bucket_bytes in ((64, BUCKET_BYTES), (256, BUCKET_BYTES), (1024, BUCKET_BYTES), (256, 1 << 40)):
        subprocess.run([sys.executable, __file__, str(megabytes), str(bucket_bytes)], check=True)


if __name__ == "__main__":
    main()
