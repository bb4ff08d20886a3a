"""Held-out files: what overlaps, and that whatever is wrong with one is an error."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.held_out import HeldOut, read_held_out
from bloomery.corpus.evaluation_files import evaluation_files, evaluation_texts

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def held(*texts: str, num_words: int = 13) -> HeldOut:
    made = HeldOut(num_words)
    for text in texts:
        made.add(text)
    return made


def test_a_run_of_thirteen_words_is_found_and_one_of_twelve_is_not():
    words = LONG.split()
    assert held(LONG).overlap("so: " + ", ".join(words[:13]).upper()) == " ".join(words[:13])
    assert held(LONG).overlap("so " + " ".join(words[1:14]) + " end") == " ".join(words[1:14])
    assert held(LONG).overlap(" ".join(words[:12]) + " and more than that is here") == ""


def test_a_shorter_text_is_found_in_full():
    assert held("What is the tallest mountain?").overlap("Well. What is the tallest mountain, if any?")
    assert not held("What is the tallest mountain?").overlap("What is the tallest building?")


def test_a_character_of_a_script_without_spaces_is_half_a_word():
    text = "北京故宫在哪里下雨"  # nine: four words and a half
    assert not held(text).overlap(f"请问{text}吗") and held(text).overlap(text)
    assert held(text + "了").overlap(f"请问{text}了吗") == " ".join(text + "了")
    long = "今天上午我们在北京大学图书馆里看了三个小时的书然后去吃饭"
    assert held(long).overlap("他说" + long[:26]) == " ".join(long[:26])
    assert not held(long).overlap("他说" + long[:25])


def test_a_very_short_text_only_as_itself():
    assert held("Who? Me!").overlap(" who me ")
    assert not held("Who? Me!").overlap("who me and you")
    assert not held("").overlap("") and held("", "...").texts == 0


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "name, text",
    [
        ("a.jsonl", json.dumps({"query": "x", "choices": [LONG, "y"], "gold": 1}) + "\n\n"),
        ("a.json", json.dumps([{"deep": {"er": [LONG]}}])),
        ("a.csv", f'id,text\n1,"{LONG}"\n'),
        ("a.tsv", f'id\ttext\n1\t"{LONG}\n'),
        ("a.txt", f"other\n{LONG}\n"),
        ("a.unknown", f"other\n{LONG}\n"),
        ("a", f"other\n\n{LONG}\n"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, compressed: bool):
    path = tmp_path / (name + ".xz" if compressed else name)
    path.write_bytes(lzma.compress(text.encode()) if compressed else text.encode())
    assert read_held_out([path]).overlap(LONG)


@pytest.mark.parametrize(
    "name, data",
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n'),
        ("a.json", b"{"),
        ("a.json", b"[" * 100_000),
        ("a.txt", b"caf\xe9"),
        ("a.txt", b"text\0text"),
        ("a.txt", b"\n \n"),
        ("a.jsonl", b'{"gold": 1}\n'),
        ("a.txt.xz", b"not xz"),
        ("a.txt.xz", lzma.compress(LONG.encode())[:-20]),
        ("a.csv", b'a,"b\n'),
    ],
)
def test_what_cannot_be_read_whole_is_an_error(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=r"a\."):
        read_held_out([tmp_path / name])


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="held-out: there is no file"):
        read_held_out([tmp_path / "none.txt"])


@pytest.mark.parametrize("number", [4, 101])
def test_run_lengths(number: int):
    with pytest.raises(ConfigError, match="num_words"):
        HeldOut(number)


def test_real_evaluation_files(shared_data: Path):
    path = shared_data / "eval" / "gsm8k_train.jsonl.xz"
    made = read_held_out([path])
    with lzma.open(path, "rt") as stream:
        question = json.loads(next(stream))["question"]
    assert made.texts > 1000 and made.overlap(f"Solve this. {question} Think step by step.")


def test_whatever_curate_reads_for_evaluation_is_held_out_too(tmp_path: Path):
    pq.write_table(pa.Table.from_pylist([{"q": [LONG]}]), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"q": LONG.upper()}).encode()))
    for name in ("a.parquet", "b.jsonl.gz", "", "*.parquet"):
        names = (str(tmp_path / name),)
        held = read_held_out(names)
        assert held.overlap(LONG)
        assert held.texts == sum(1 for path in evaluation_files(names) for _ in evaluation_texts(path))
