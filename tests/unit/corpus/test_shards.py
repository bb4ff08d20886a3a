"""Shards: what is written is read, rotated by size, the same bytes every time; damage is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.document import Document
from bloomery.corpus.shards import SplitWriter, read_documents, read_folder, read_lines

_DOCUMENTS = [Document.of(f"text {n}: äöü 吾輩 \u2028\x85\r\n" * 20, f"{n}.txt", {"line": n}) for n in range(100)]


def _write(folder: Path, documents: list[Document], shard_bytes: int = 1 << 20) -> SplitWriter:
    folder.mkdir(parents=True, exist_ok=True)
    with SplitWriter(folder, "train", shard_bytes=shard_bytes) as writer:
        for document in documents:
            writer.write(document)
    return writer


def test_what_is_written_is_read_back_over_several_shards(tmp_path: Path):
    writer = _write(tmp_path, _DOCUMENTS, shard_bytes=5000)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[:2] == ["train-00000.jsonl.zst", "train-00001.jsonl.zst"]
    assert len(names) > 5
    assert list(read_folder(tmp_path, "train")) == _DOCUMENTS
    assert list(read_folder(tmp_path, "test")) == []
    assert (writer.documents, writer.text_bytes) == (100, sum(len(d.text.encode()) for d in _DOCUMENTS))


def test_the_same_documents_give_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        _write(tmp_path / name, _DOCUMENTS, shard_bytes=5000)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.text(), max_size=8))
def test_any_text_survives(tmp_path: Path, texts: list[str]):
    for old in tmp_path.iterdir():
        old.unlink()
    _write(tmp_path, [Document.of(text, text) for text in texts])
    assert [document.text for document in read_folder(tmp_path, "train")] == texts


def test_a_damaged_or_foreign_shard_is_named(tmp_path: Path):
    _write(tmp_path, _DOCUMENTS)
    path = tmp_path / "train-00000.jsonl.zst"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"train-00000\.jsonl\.zst"):
        list(read_lines(path))
    path.write_bytes(bytes(whole[:0]) + b"text")
    with pytest.raises(DataError, match="line 1"):
        list(read_folder(tmp_path, "train"))


def test_a_truncated_shard_is_not_taken_for_a_short_one(tmp_path: Path):
    _write(tmp_path, _DOCUMENTS)
    path = tmp_path / "train-00000.jsonl.zst"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(DataError):
        list(read_folder(tmp_path, "train"))


def test_the_zstd_program_reads_a_shard(tmp_path: Path):
    import shutil

    if not (program := shutil.which("zstd")):
        pytest.skip("no zstd program here")
    _write(tmp_path, _DOCUMENTS)
    done = subprocess.run([program, "-dc", str(tmp_path / "train-00000.jsonl.zst")], capture_output=True, check=True)
    assert done.stdout.count(b"\n") == 100


def test_only_splits_of_a_corpus_are_read(tmp_path: Path):
    corpus = Artifact(path=tmp_path, id="0" * 64, kind="corpus", manifest={})
    with pytest.raises(ConfigError, match="valid") as caught:
        read_documents(corpus, "valid")
    assert "validation" in caught.value.hint
    with pytest.raises(ConfigError, match="not a corpus"):
        read_documents(Artifact(path=tmp_path, id="0" * 64, kind="model", manifest={}), "train")
