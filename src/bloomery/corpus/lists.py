"""Lists that a user gives to rules: bad words by language, links with scores, documents with scores.

Tables lie in SQLite in the run's scratch folder, so that memory does not grow with them. This module does not know
rules.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bloomery.core.artifact import fsync
from bloomery.core.errors import ConfigError, DataError

_BATCH_ROWS = 10_000
_NO_SPACES = ("ja", "th", "zh")
_ALLOWED = {"ja": {"sm", "グロ", "女の子"}, "zh": {"性"}}  # parts of common words (mC4's code)
_URL_COLUMNS, _SCORE_COLUMNS, _ID_COLUMNS = ("url", "link", "uri"), ("score", "karma", "points"), ("id", "document")


class BadWords:
    """Patterns by language of a folder with one file a language (`en`, `de`, ...), or of one file for all."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser()
        if not self._path.exists():
            raise ConfigError(f"no list of bad words at {path}", hint="a folder with a file a language, or one file")
        self._patterns: dict[str, re.Pattern[str] | None] = {}

    def pattern(self, language: str) -> re.Pattern[str] | None:
        """What to search for in lower-cased lines; None for a language without a list."""
        if language not in self._patterns:
            self._patterns[language] = self._read(language)
        return self._patterns[language]

    def _read(self, language: str) -> re.Pattern[str] | None:
        path = self._path / language if self._path.is_dir() else self._path
        if not path.is_file() or path.parent != (self._path if self._path.is_dir() else self._path.parent):
            return None
        try:
            words = {line.strip().lower() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the bad words in {path}: {error}") from error
        either = "|".join(sorted(map(re.escape, words - _ALLOWED.get(language, set()))))
        if not either:
            return None
        return re.compile(either if language in _NO_SPACES else rf"(?<![^\W\d_])(?:{either})(?![^\W\d_])")


def normal_url(url: str) -> str:
    """A URL without scheme, www, campaign parameters and slash at its end, as C4's code compares them."""
    url = re.sub(r"https?://(www\.)?", "", url.strip())
    return re.sub(r"\?(utm_|ref|feed).*", "", url).rstrip("/")


class ScoreTable:
    """Numbers by key, on disk; of a key that occurs more than once the highest.

    A file that is there is read, so that several processes can share what one has made; `rows` is what makes it.
    """

    def __init__(self, path: Path, rows: Iterator[tuple[str, float]]) -> None:
        if not path.exists():
            self._make(path, rows)
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        self._connection.execute("PRAGMA cache_size=-32768")

    @staticmethod
    def _make(path: Path, rows: Iterator[tuple[str, float]]) -> None:
        """Beside its place and renamed into it: what is there is whole."""
        half = path.with_name(f"{path.name}.{os.getpid()}")
        half.unlink(missing_ok=True)
        connection = sqlite3.connect(half, isolation_level=None)
        try:
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-32768", "locking_mode=EXCLUSIVE"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("CREATE TABLE scores (key TEXT PRIMARY KEY, score REAL) WITHOUT ROWID")
            connection.execute("BEGIN")
            statement = "INSERT INTO scores VALUES (?, ?) ON CONFLICT DO UPDATE SET score = max(score, excluded.score)"
            connection.executemany(statement, rows)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            half.unlink(missing_ok=True)
            raise
        connection.close()
        fsync(half)
        half.replace(path)

    def get(self, key: str) -> float | None:
        """The number of a key, None without one."""
        row = self._connection.execute("SELECT score FROM scores WHERE key = ?", (key,)).fetchone()
        return None if row is None else float(row[0])

    def close(self) -> None:
        self._connection.close()


def links_with_scores(path: str, folder: Path) -> ScoreTable:
    """A table of links with scores (columns url and score) of CSV, TSV, JSONL or Parquet, by `normal_url`.

    It lies in `folder`, and is what lies there already.
    """
    return ScoreTable(folder / "links.sqlite", _rows(path, _URL_COLUMNS, normal_url))


def documents_with_scores(path: str, folder: Path) -> ScoreTable:
    """A table of documents with scores (columns id and score), as a model above this floor may have written it."""
    return ScoreTable(folder / "scores.sqlite", _rows(path, _ID_COLUMNS, str))


def _rows(path: str, keys: tuple[str, ...], key_of: Callable[[str], str]) -> Iterator[tuple[str, float]]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"no table of scores at {path}", hint=f"CSV, TSV, JSONL or Parquet with {keys[0]} and score")
    try:
        for number, row in enumerate(_read(file), 1):
            key = next((row[name] for name in keys if row.get(name) is not None), None)
            score = next((row[name] for name in _SCORE_COLUMNS if row.get(name) is not None), None)
            if key is None or score is None:
                raise DataError(
                    f"{path}, row {number}: no {keys[0]} or no score", hint=f"name them {keys[0]} and score"
                )
            value = float(score)
            if not math.isfinite(value):
                raise ValueError(f"row {number}: the score is {score}")
            yield key_of(str(key)), value
    except (OSError, ValueError, csv.Error, TypeError) as error:
        raise DataError(f"cannot read the scores in {path}: {error}") from error


def _read(file: Path) -> Iterator[dict[str, Any]]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise ValueError(error) from error
        return
    with file.open(encoding="utf-8", newline="") as stream:
        if suffix in (".jsonl", ".ndjson"):
            for line in stream:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("a line is not a JSON object")
                yield row
        else:
            yield from csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ",")
