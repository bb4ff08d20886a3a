"""Evaluation files: every string of every format, and an error for whatever cannot be read."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.evaluation_files import evaluation_files, evaluation_texts

ROWS = [{"question": "Why?", "choices": ["one", "two"], "n": 3}, {"question": "Who?", "choices": [], "n": None}]
STRINGS = ["Why?", "one", "two", "Who?"]


def _write(folder: Path) -> dict[str, Path]:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "a.jsonl").write_text(text + "\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "c.json").write_text("\ufeff" + json.dumps({"rows": ROWS}))
    (folder / "c2.json").write_text(text)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "d.parquet")
    (folder / "e.csv").write_text('question,answer\n"Why,\nthen?",one\n')
    (folder / "f.tsv").write_text('Why "so?\tone\n')
    (folder / "g.txt.xz").write_bytes(lzma.compress(b"Why?\none\n\ntwo\r\n\r\nWho?\n"))
    return {path.name: path for path in folder.iterdir()}


def test_every_string_is_a_text(tmp_path: Path):
    files = _write(tmp_path)
    for name in ("a.jsonl", "b.jsonl.gz", "c.json", "c2.json", "d.parquet"):
        assert list(evaluation_texts(files[name])) == STRINGS, name
    assert list(evaluation_texts(files["e.csv"])) == ["question", "answer", "Why,\nthen?", "one"]
    assert list(evaluation_texts(files["f.tsv"])) == ['Why "so?', "one"]
    assert list(evaluation_texts(files["g.txt.xz"])) == ["Why?\none", "Why?", "one", "two", "Who?\n"]
    assert evaluation_files((str(tmp_path), str(tmp_path / "a*"))) == sorted(files.values())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"q": "x"}\n{"q": \n', "line 2"),
        ("a.jsonl", b'{"q": "\xff"}\n', "utf-8"),
        ("a.jsonl.gz", gzip.compress(b'{"q": "x"}\n' * 1000)[:-12], "truncated|damaged"),
        ("a.json", b"[1, 2", "delimiter"),
        ("a.json", b'{"q": "x"}\n{"q": \n', "Expecting value"),
        ("a.json", b"[" * 100_000, "depth|nested"),
        ("a.csv", b'"x', "end of data"),
        ("a.parquet", b"PAR1", "arquet|small|footer"),
        ("a.txt", "question".encode("utf-16-le"), "binary"),
        ("a.csv", b"q,\0a\n", "binary"),
        ("a.bin", b"question", "format is not known"),
        ("README", b"question", "format is not known"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        list(evaluation_texts(tmp_path / name))
    assert str(tmp_path / name) in caught.value.message and caught.value.hint
    assert "\n" not in caught.value.one_line()


def test_a_file_without_permission_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        list(evaluation_texts(tmp_path / "gone.jsonl"))


@pytest.mark.parametrize("name", ["nothing.jsonl", "none*.jsonl", "empty", "a\0b", "~nobody-here/x"])
def test_a_name_that_names_no_file_is_an_error(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="evaluation"):
        evaluation_files((name if name.startswith("~") else str(tmp_path / name),))


def test_real_sets_are_read_whole(tmp_path: Path, shared_data: Path):
    for name in ("tasks", "mmlu_dev"):
        with tarfile.open(shared_data / "eval" / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path / name, filter="data")
    files = evaluation_files((str(tmp_path / "tasks"), f"{tmp_path}/mmlu_dev/**/*.csv"))
    assert len(files) > 20
    counts = {path.name: sum(1 for _ in evaluation_texts(path)) for path in files}
    assert min(counts.values()) > 5
    texts = list(evaluation_texts(shared_data / "eval" / "gsm8k_train.jsonl.xz"))
    assert len(texts) == 2 * 7473  # the published size of GSM8K's training set, a question and an answer each
