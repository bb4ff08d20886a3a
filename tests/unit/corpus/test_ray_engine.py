"""Ray: the corpus, the order and the clusters of local processes, and a log that either engine goes on with."""

from __future__ import annotations

import gc
import hashlib
import json
import random
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from bloomery.core.errors import DataError, MissingExtraError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, FilterConfig, PersonalConfig, curate, ray_engine, reading_plan, sources
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.problems import Problems
from bloomery.corpus.ray_crew import RayCrew
from bloomery.corpus.ray_engine import RayReader, ray_cluster
from bloomery.corpus.reader_pool import ReaderPool
from bloomery.corpus.reading_log import ReadingLog
from bloomery.corpus.record import Record
from bloomery.corpus.sources import source_files

SENTENCE = "The keeper {0} of the house {1} had seen the garden and the river {2}, and they have it with care.\n"


# Ray forgets its processes without waiting for them; what it warns of in its own modules is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:subprocess \d+ is still running:ResourceWarning"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray(\.|$)"),
    pytest.mark.filterwarnings(r"ignore::FutureWarning:ray(\.|$)"),
    pytest.mark.timeout(900),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One for the file: Ray takes long to start. Curations find it and leave it running. Nothing of it is left over."""
    pytest.importorskip("ray")
    before = _children()
    with ExitStack() as stack:
        try:
            stack.enter_context(ray_cluster(2))
        except DataError as error:
            said = error.one_line()
        else:
            said = ""
            yield
    gc.collect()
    assert _left_of(before) == []
    if said:
        pytest.skip(f"Ray does not start on this machine: {said}")


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _left_of(before: set[psutil.Process]) -> list[str]:
    """The commands of what was started and is still there after a minute."""
    _, alive = psutil.wait_procs(_children() - before, timeout=60)
    return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("ray"), random.Random(0)
    texts = ["".join(SENTENCE.format(rng.random(), n, rng.random()) for _ in range(7)) for n in range(60)]
    texts += [text.replace("river", "brook", 1) for text in texts[:20]]  # near duplicates, and one exact
    rows = [json.dumps({"text": f"{text} Mail a{n}@acme.io."}) for n, text in enumerate([*texts, texts[-1]])]
    rows.insert(7, "{broken")
    (root / "a.jsonl").write_text("\n".join(rows))
    (root / "b.csv").write_text("id,text\n" + "".join(f'{n},"two\n\n{text}"\n' for n, text in enumerate(texts[40:60])))
    (root / "c.warc.gz").write_bytes((shared_data / "web/warc/dolma_sample-0001.warc.gz").read_bytes())
    (root / "d.txt").write_bytes(b"\0\0")
    return root


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch):
    for name in ("_POOL_BYTES", "_JUDGED_BYTES"):
        monkeypatch.setattr(sources, name, 0)
    monkeypatch.setattr(reading_plan, "LINE_BYTES", 20_000)
    monkeypatch.setattr(reading_plan, "REGION_BYTES", 100_000)


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.usefixtures("cluster", "_small")
def test_one_worker_four_and_ray_make_the_same_corpus_and_clusters(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from bloomery.corpus import staged

    monkeypatch.setattr(staged, "SHARD_BYTES", 15_000)  # several shards, so that the crew has something to do
    asked = {
        "cut_characters": 2000,
        "filter": FilterConfig(profile="c4-paper", rules={"c4_language": "off"}),
        "personal": PersonalConfig(email="mask"),
        "dedup": DedupConfig(near=True),
    }
    made = []
    for name, config, workers in (
        ("one", CurateConfig(**asked), 1),
        ("four", CurateConfig(**asked), 4),
        ("ray", CurateConfig(**asked, engine="ray"), 2),
    ):
        made.append(curate(folder, config=config, workspace=Workspace(tmp_path / name), workers=workers))
    assert len({corpus.id for corpus in made}) == 1 and len({corpus.manifest["run"] for corpus in made}) == 3
    assert _hashes(made[0].path) == _hashes(made[1].path) == _hashes(made[2].path)
    assert made[0].metrics["dropped"]["near_duplicate"] > 15
    assert made[0].metrics["problems"] == 2


@pytest.mark.usefixtures("cluster", "_small")
def test_what_one_engine_read_the_other_goes_on_from(folder: Path, tmp_path: Path):
    config = CurateConfig(sources=(str(folder),))
    with ReaderPool(config, 1, tables=tmp_path) as pool:
        expected = [record for batch in pool.batches(source_files(str(folder))) for record in batch]

    def some(reader: RayReader | ReaderPool, limit: int) -> tuple[list[Record], int]:
        with ReadingLog(tmp_path / "log") as log:
            log.piece_bytes, found, kept = 1, [], log.pieces
            batches = reader.batches(source_files(str(folder)), log)
            for batch in batches:
                found += batch
                if len(found) >= limit:
                    break
            assert isinstance(batches, Generator)
            batches.close()
        return found, kept

    with ReaderPool(config, 1, tables=tmp_path) as pool:
        first, _ = some(pool, 70)
    found, kept = some(RayReader(config, 2, tables=tmp_path, stages=0), 1 << 30)
    assert len(first) < len(expected) and kept > 0
    assert [_told(record) for record in found] == [_told(record) for record in expected]


def _told(record: Record) -> tuple[object, ...]:
    return record.kind, record.id, record.text, record.source, record.metadata, record.reason, record.detail


@pytest.mark.usefixtures("cluster")
def test_a_crew_tells_what_fails_as_processes_do(tmp_path: Path):
    from bloomery.core.config import to_dict

    same = {"config": to_dict(DedupConfig(near=True)), "out": str(tmp_path / "out"), "folder": str(tmp_path)}
    task = {"do": "sign", "name": "none", "first": 0, "sketches": str(tmp_path / "sketches"), **same}
    assert RayCrew(2).run([task]) == [0]
    with pytest.raises(NotADirectoryError):
        (tmp_path / "s-00000.jsonl.zst").write_bytes(b"no shard")
        RayCrew(2).run([{**task, "out": str(tmp_path / "s-00000.jsonl.zst" / "x")}, task])


def test_without_the_package_the_error_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught, ray_cluster(1):
        pass
    assert 'pip install "bloomery[ray]"' in caught.value.one_line()


def test_errors_of_a_task_are_told_here():
    failed = Record("failed", reason="DataError", detail="it died", more={"hint": "fewer workers"})
    error = ray_engine._error(failed)
    assert isinstance(error, DataError) and error.hint == "fewer workers"
    missing = ray_engine._error(Record("failed", reason="MissingExtraError", detail="needs x", more={"hint": "pip"}))
    assert isinstance(missing, MissingExtraError) and missing.hint == "pip"
    with pytest.raises(DataError, match="binary"):
        Problems().tell(Record.of_broken("d.txt", "binary", "zeros", named=True))
