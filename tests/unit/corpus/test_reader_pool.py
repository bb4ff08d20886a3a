"""Reader pool: the documents of one process for any number of workers; what hangs or crashes costs its page alone."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import DataError
from bloomery.corpus import archive_records, reading_plan, sources
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.reader_pool import ReaderPool
from bloomery.corpus.reading_log import ReadingLog
from bloomery.corpus.sources import read_sources, source_files


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("pool"), random.Random(0)
    rows = [json.dumps({"text": "x" * rng.randrange(300) + str(n)}) if n % 17 else "{broken" for n in range(200)]
    (root / "a.jsonl").write_text("\n".join(rows))
    with (root / "b.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        for n in range(200):
            writer.writerow([n, rng.choice(["plain", "a, b", 'a "q"', "two\nlines\n\n", "\n" * 5]) + str(n)])
    reads = (f"@s{n}\n{'ACGT' * 9}\n+\n{''.join(rng.choices('@+IJ', k=36))}\n" for n in range(150))
    (root / "c.fastq").write_text("".join(reads))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [f"t{n}" for n in range(300)]}), root / "d.parquet", row_group_size=100)
    warc = shared_data / "web" / "warc"
    (root / "e.warc.gz").write_bytes((warc / "dolma_sample-0001.warc.gz").read_bytes())
    (root / "f.warc").write_bytes((warc / "whirlwind" / "whirlwind.warc").read_bytes())
    (root / "g.txt").write_bytes(b"\0\0")
    return root


def _read(source: Path, workers: int, **config: Any) -> tuple[list[Document], list[tuple[str, ...]], Problems]:
    drops: list[tuple[str, ...]] = []
    problems = Problems(dropped=lambda *told: drops.append(told))
    return (
        list(read_sources(CurateConfig(sources=(str(source),), **config), problems, workers=workers)),
        drops,
        problems,
    )


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "_POOL_BYTES", 0)
    monkeypatch.setattr(reading_plan, "LINE_BYTES", 3000)
    monkeypatch.setattr(reading_plan, "GROUP_BYTES", 1)
    monkeypatch.setattr(reading_plan, "REGION_BYTES", 20_000)


@pytest.mark.usefixtures("_small")
def test_any_number_of_workers_gives_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch):
    found = [_read(folder, workers) for workers in (1, 3)]
    monkeypatch.setattr(reading_plan, "LINE_BYTES", 1 << 30)
    monkeypatch.setattr(reading_plan, "REGION_BYTES", archive_records.REGION_BYTES)
    found.append(_read(folder, 1))
    for documents, drops, problems in found[1:]:
        assert documents == found[0][0]
        assert drops == found[0][1]
        assert problems == problems.__class__(
            counts=found[0][2].counts, listed=found[0][2].listed, dropped=problems.dropped
        )
    assert len(found[0][0]) > 700
    assert found[0][2].counts["binary"] == 1


def _pages(path: Path, hostile: str) -> None:
    good = "<main><p>" + "Some words stand here. " * 9
    block = b""
    for text in (good + "1", hostile, good + "2"):
        body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + text.encode()
        head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"
        block += head % len(body) + body + b"\r\n\r\n"
    path.write_bytes(block)


def test_a_page_that_takes_too_long_costs_itself_alone(tmp_path: Path):
    _pages(tmp_path / "a.warc", ("<div>" * 900 + "x" + "</div>" * 900) * 1000)
    documents, drops, problems = _read(tmp_path / "a.warc", 1, extract_seconds=1)
    assert [document.text[-1] for document in documents] == ["1", "2"]
    assert [drop[0] for drop in drops] == ["extraction_timeout"]
    assert drops[0][1].startswith(f"{tmp_path}/a.warc, offset ")
    assert problems.counts == {"extraction_timeout": 1}


def _reading(source: Path, workers: int = 1):
    config = CurateConfig(sources=(str(source),))
    pool = ReaderPool(config, workers)
    return pool, pool.read(source_files(str(source)), Problems())


def test_a_worker_that_dies_is_an_error_that_names_file_and_offset(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * 1000 + str(n)}) + "\n" for n in range(20_000)))
    pool, reading = _reading(path)
    with pool, closing(reading):
        next(reading)
        os.kill(next(iter(pool._all)).pid, signal.SIGKILL)
        with pytest.raises(DataError, match=r"a\.jsonl, offset 0 died \(SIGKILL") as caught:
            list(reading)
        assert "--workers" in caught.value.hint


def test_no_process_outlives_its_pool(folder: Path):
    pool, reading = _reading(folder / "e.warc.gz", 2)
    with pool, closing(reading):
        next(reading)
        pids = [process.pid for process in pool._all]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
            time.sleep(0.1)


class _Killed(Exception):
    """Stands for the end of the process that reads."""


@pytest.mark.usefixtures("_small")
def test_what_is_logged_is_not_read_again_and_nothing_is_lost_or_doubled(folder: Path, tmp_path: Path):
    config = CurateConfig(sources=(str(folder),))
    with ReaderPool(config, 2) as pool:
        expected = [record for batch in pool.batches(source_files(str(folder))) for record in batch]
    rng, attempts, replayed = random.Random(5), 0, []
    while True:
        attempts += 1
        log = ReadingLog(tmp_path / "log")
        log.piece_bytes, found, limit = rng.choice((1, 3000)), [], rng.randrange(150, 400)
        replayed.append(sum(len(rows) for _, rows, _ in log.replay()))
        try:
            with ReaderPool(config, 2) as pool, log, closing(pool.batches(source_files(str(folder)), log)) as batches:
                for batch in batches:
                    found += batch
                    if len(found) > replayed[-1] + limit:
                        raise _Killed
            break
        except _Killed:
            (tmp_path / "log" / "half-1").write_bytes(b"what a killed process was writing")
    assert found == expected
    assert attempts > 2 and replayed == sorted(replayed) and replayed[-1] > 200
    with ReaderPool(config, 2) as pool, ReadingLog(tmp_path / "log") as log:
        assert [record for batch in pool.batches(source_files(str(folder)), log) for record in batch] == expected
        assert not pool._all
