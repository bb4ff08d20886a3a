"""The layouts in which parallel text is published, and what is wrong with a file in one line."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.tokenizer.parallel_text import read_parallel


def test_massive(shared_data: Path, tmp_path: Path):
    """A TSV a language with identifiers: the dev partition is 2,033 sentences in each (the paper's table 1)."""
    folder = tmp_path / "massive"
    folder.mkdir()
    for language in ("en", "my"):
        (folder / f"{language}.tsv.xz").symlink_to(shared_data / "massive" / f"{language}.tsv.xz")
    (folder / "median_tokens_check.tsv").write_text("lang\trows\nen\t3\n")
    text = read_parallel(folder, partition="dev")
    assert {language: len(kept) for language, kept in text.sentences.items()} == {"en": 2033, "my": 2033}
    with lzma.open(folder / "my.tsv.xz", "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    assert text.sentences["my"] == {row[0]: row[3] for row in rows if row[1] == "dev"}
    assert text.reference() == "en" and text.reference("my") == "my"
    with pytest.raises(ConfigError, match=r'no sentence is of partition "test"') as error:
        read_parallel(folder, partition="test")
    assert "dev" in error.value.hint


def test_multi30k_and_tatoeba(shared_data: Path):
    lines = read_parallel(shared_data / "multi30k", partition="val")
    with gzip.open(shared_data / "multi30k" / "val.de.gz", "rt", encoding="utf-8") as stream:
        assert list(lines.sentences["de"].values()) == stream.read().splitlines()
    assert set(lines.sentences) == {"de", "en", "fr"} and len(lines.sentences["en"]) == 1014
    pairs = read_parallel(shared_data / "tatoeba" / "tatoeba.tar.xz")
    assert len(pairs.sentences) == 113 and pairs.reference() == "eng"
    with tarfile.open(shared_data / "tatoeba" / "tatoeba.tar.xz") as archive:
        sides = {m.name.rsplit(".", 2)[-2:][1]: m for m in archive if ".hin-eng." in m.name}
        said = {side: archive.extractfile(member).read().decode().splitlines() for side, member in sides.items()}  # type: ignore[union-attr]
    hindi = pairs.sentences["hin"]
    english = [pairs.sentences["eng"][key] for key in hindi]
    assert list(zip(hindi.values(), english, strict=True)) == list(zip(said["hin"], said["eng"], strict=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "en\tde\nhello\thallo\nbye\ttschüss\n"),
        ("a.tsv", "\ufeffen\tde\r\nhello\thallo\r\nbye\ttschüss\r\n"),
        ("a.csv", 'id,en,de\n1,hello,hallo\n2,"bye","tschüss"\n'),
        ("a.jsonl", '{"en": "hello", "de": "hallo"}\n\n{"en": "bye", "de": "tschüss"}\n'),
        ("a.jsonl", '{"translation": {"en": "hello", "de": "hallo"}}\n{"translation": {"en": "bye", "de": "tschüss"}}'),
        ("a.tsv", "id\tlanguage\ttext\n1\ten\thello\n1\tde\thallo\n2\ten\tbye\n2\tde\ttschüss\n"),
    ],
)
def test_one_file_of_columns_or_of_rows(tmp_path: Path, name: str, content: str):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    found = read_parallel(tmp_path / name).sentences
    assert {language: list(kept.values()) for language, kept in found.items()} == {
        "de": ["hallo", "tschüss"],
        "en": ["hello", "bye"],
    }
    assert list(found["de"]) == list(found["en"])


def test_jsonl_a_language_and_codes_as_flores_writes_them(tmp_path: Path):
    for language, text in (("eng_Latn", "hello"), ("arb_Arab", "مرحبا"), ("zh-CN", "你好")):
        (tmp_path / f"{language}.jsonl").write_text(json.dumps({"id": 7, "utt": text, "partition": "dev"}))
    (tmp_path / "README.md").write_text("# about")
    found = read_parallel(tmp_path)
    assert set(found.sentences) == {"eng_Latn", "arb_Arab", "zh-CN"} and found.reference() == "eng_Latn"
    plain = tmp_path / "plain"
    plain.mkdir()
    for language in ("eng_Latn", "khm_Khmr"):
        (plain / f"{language}.devtest").write_text("one\n\n  \nfour\n")
    found = read_parallel(plain)
    assert found.blank == 4 and list(found.sentences["khm_Khmr"]) == ["devtest:1", "devtest:4"]


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({}, {}, "no parallel text"),
        ({"en.tsv": "id\tutt\n1\tx\n1\ty\n"}, {}, r'en\.tsv, line 3: "1" stands twice'),
        ({"en.tsv": "id\tutt\n1\tx\ty\n"}, {}, r"line 2: 3 cells, the first line has 2"),
        ({"en.jsonl": "{broken\n"}, {}, r"en\.jsonl, line 1: not JSON"),
        ({"en.jsonl": '{"id": 1}\n'}, {}, r"no text in utt"),
        ({"en.jsonl": '{"body": "x"}\n'}, {"text_field": "boddy"}, r"there is: body"),
        ({"en.txt": b"ok\nok\xff\n"}, {}, r"line 2: not UTF-8"),
        ({"en.txt.gz": b"\x1f\x8bxxxx"}, {}, r"cannot read"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, files: dict[str, Any], options: dict[str, str], said: str):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BloomeryError, match=said) as error:
        read_parallel(tmp_path, **options)
    assert "\n" not in error.value.one_line()


def test_a_path_or_a_language_that_is_not_there(tmp_path: Path):
    for path in (tmp_path / "nothing", "a\0b"):
        with pytest.raises(ConfigError):
            read_parallel(path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BloomeryError, match="neither TSV"):
        read_parallel(tmp_path / "a.txt")
    (tmp_path / "a.tsv").write_text("de\tfr\nx\ty\n")
    text = read_parallel(tmp_path / "a.tsv")
    with pytest.raises(ConfigError, match="no English"):
        text.reference()
    with pytest.raises(ConfigError, match='no language "xx"'):
        text.only(["xx"])
    (tmp_path / "b.tar").write_bytes(b"no tar at all")
    with pytest.raises(BloomeryError, match="cannot read"):
        read_parallel(tmp_path / "b.tar")
