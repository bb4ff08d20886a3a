"""Lists: bad words by language, links and documents with scores."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.lists import BadWords, documents_with_scores, links_with_scores, normal_url


def test_bad_words_of_the_published_list(shared_data: Path):
    words = BadWords(str(shared_data / "web" / "blocklists" / "ldnoobw"))
    english = words.pattern("en")
    assert english and english.search("what an ass, he said") and not english.search("a class passed")
    japanese = words.pattern("ja")
    assert japanese and not japanese.search("グロ")  # allowed, as in mC4's code
    assert words.pattern("xx") is None and words.pattern("../ldnoobw/en") is None


def test_one_file_is_for_all_languages(tmp_path: Path):
    (tmp_path / "words").write_text("Drat\n\n")
    pattern = BadWords(str(tmp_path / "words")).pattern("de")
    assert pattern and pattern.search("oh drat!")
    with pytest.raises(ConfigError):
        BadWords(str(tmp_path / "none"))


def test_urls_are_compared_as_c4_compares_them():
    same = ["https://www.a.org/b/", "http://a.org/b", "a.org/b?utm_source=x", "https://a.org/b?ref=1"]
    assert {normal_url(url) for url in same} == {"a.org/b"}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_of_links_in_every_format(tmp_path: Path, suffix: str):
    rows = [
        {"url": "https://www.a.org/x/", "score": 2},
        {"url": "http://a.org/x", "score": 7.5},
        {"url": "b.org", "score": -1},
    ]
    path = tmp_path / f"links.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        comma = "," if suffix == "csv" else "\t"
        path.write_text(
            "".join(comma.join(map(str, row)) + "\n" for row in (("url", "score"), *(r.values() for r in rows)))
        )
    table = links_with_scores(str(path), tmp_path)
    assert [table.get(key) for key in ("a.org/x", "b.org", "c.org")] == [7.5, -1.0, None]
    table.close()


@pytest.mark.parametrize("text", ["id,points\na,x\n", "id,other\na,1\n", "id,score\na,nan\n", "\x00"])
def test_damaged_tables_are_named(tmp_path: Path, text: str):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    try:
        table = documents_with_scores(str(path), tmp_path)
    except DataError as error:
        assert "scores.csv" in str(error)
    else:
        assert text == "\x00" and table.get("a") is None
        table.close()


def test_no_table(tmp_path: Path):
    with pytest.raises(ConfigError, match="no table"):
        links_with_scores(str(tmp_path / "none.csv"), tmp_path)
