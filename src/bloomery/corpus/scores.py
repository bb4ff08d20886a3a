"""Scores: what was measured of every document, as columns of Parquet files beside the corpus.

`scores.parquet` has a row for each document that was read and not blank: what it is, the rule that dropped it ("" if
none did), the beginning of its text, a column of scores for each rule on documents, and the lines and characters that
each rule on lines took; where they were asked for, the languages of its paragraphs and the characters of each, as two
lists. `lines.parquet` has a row a line: the row of its document, its characters, and what each rule that looks at lines
measured. The n-th row group of one file belongs to the n-th of the other. This module does not know what the scores
mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.document import Document, readable
from bloomery.corpus.judge import Verdict
from bloomery.corpus.rule import Rule

SCORES_FILE = "scores.parquet"
LINES_FILE = "lines.parquet"
EXCERPT_CHARACTERS = 240
_CLEANED_CHARACTERS = 24_000  # a private key that begins in the excerpt ends in these
_GROUP_DOCUMENTS = 4096
_GROUP_LINES = 1 << 19
PARAGRAPHS, PARAGRAPH_CHARACTERS = "paragraph_languages", "paragraph_characters"
_TEXTS = ("id", "source", "site", "language", "rule", "excerpt")
_COUNTS = ("text_bytes", "characters", "original_characters")


def site_of(url: object) -> str:
    """The host of a URL without www, or ""."""
    try:
        host = urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return ""
    return readable((host or "").removeprefix("www."))


def excerpt_of(text: str, clean: Callable[[str], str] = str) -> str:
    """The beginning of a text; `clean` takes personal data out of it."""
    return clean(text[:_CLEANED_CHARACTERS])[:EXCERPT_CHARACTERS]


class ScoreColumns:
    """The columns of SCORES_FILE and LINES_FILE for some rules, and their values for one document, as plain data."""

    def __init__(self, rules: Sequence[Rule], *, paragraphs: bool = False) -> None:
        """`paragraphs`: with the languages of paragraphs, which a document's metadata has under PARAGRAPHS."""
        self.paragraphs = paragraphs
        self.documents = [rule.name for rule in rules if rule.drops == "document"]
        self.takers = [rule.name for rule in rules if rule.drops == "line"]
        self.lined = [rule.name for rule in rules if rule.drops == "line" or rule.reads == "lines"]

    def row(
        self,
        document: Document,
        verdict: Verdict,
        *,
        language: tuple[str, float] | None,
        original: Document,
        url: str,
        excerpt: str,
    ) -> dict[str, Any]:
        """The row of a document (as it is after the rules on lines) with its verdict."""
        row: dict[str, Any] = {
            "id": document.id,
            "source": document.source,
            "site": site_of(url),
            "language": language[0] if language else "",
            "rule": verdict.rule.name if verdict.rule else "",
            "excerpt": excerpt,
            "text_bytes": len(document.text.encode()),
            "characters": len(document.text),
            "original_characters": len(original.text),
            "language_probability": float(language[1]) if language else None,
        }
        for name in self.documents:
            score = verdict.scores[name]
            row[name] = None if score is None else float(score)
        for name in self.takers:
            row[f"{name}.lines"], row[f"{name}.characters"] = verdict.taken[name]
        if self.paragraphs:
            found: Counter[str] = Counter()
            for name, _, size in document.metadata.get(PARAGRAPHS, ()):
                found[name] += size
            row[PARAGRAPHS], row[PARAGRAPH_CHARACTERS] = list(found), list(found.values())
        return row

    def lines(self, verdict: Verdict) -> dict[str, list[int] | None] | None:
        """What was measured of each line, by column (None: not measured); None where no rule looks at lines."""
        if not self.lined:
            return None
        values = {name: verdict.lines[name] for name in ("characters", *self.lined)}
        return {name: None if each is None else each.astype(np.int32).tolist() for name, each in values.items()}


class ScoreWriter:
    """Writes rows of scores, a row group at a time. `folder` gets SCORES_FILE and, where rules look at lines,
    LINES_FILE."""

    def __init__(self, folder: Path, rules: Sequence[Rule], *, paragraphs: bool = False) -> None:
        import pyarrow as pa

        columns = ScoreColumns(rules, paragraphs=paragraphs)
        self._lined = columns.lined
        fields = [pa.field(name, pa.string()) for name in _TEXTS]
        fields += [pa.field(name, pa.int64()) for name in _COUNTS]
        fields.append(pa.field("language_probability", pa.float32()))
        fields += [pa.field(name, pa.float64()) for name in columns.documents]
        fields += [pa.field(f"{name}.{of}", pa.int64()) for name in columns.takers for of in ("lines", "characters")]
        if paragraphs:
            kinds = {PARAGRAPHS: pa.string(), PARAGRAPH_CHARACTERS: pa.int64()}
            fields += [pa.field(name, pa.list_(kind)) for name, kind in kinds.items()]
        self._schema = pa.schema(fields)
        self._line_schema = pa.schema([pa.field(name, pa.int32()) for name in ("characters", *self._lined)])
        self._line_schema = self._line_schema.insert(0, pa.field("document", pa.int64()))
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._rows: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._lines: dict[str, list[NDArray[Any]]] = {name: [] for name in self._line_schema.names}
        self._line_count = 0
        self.documents = 0

    def add(self, row: Mapping[str, Any], lines: Mapping[str, list[int] | None] | None) -> None:
        """Add a document's row and those of its lines, as ScoreColumns gives them."""
        for name, values in self._rows.items():
            values.append(row[name])
        if lines is not None:
            count = len(lines["characters"] or ())
            self._lines["document"].append(np.full(count, self.documents, np.int64))
            for name in self._line_schema.names[1:]:
                each = lines[name]
                self._lines[name].append(np.full(count, -1, np.int32) if each is None else np.array(each, np.int32))
            self._line_count += count
        self.documents += 1
        if len(self._rows["id"]) >= _GROUP_DOCUMENTS or self._line_count >= _GROUP_LINES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows["id"]:
            arrays = [pa.array(self._rows[field.name], field.type) for field in self._schema]
            self._write(SCORES_FILE, self._schema, arrays)
        if self._lined and self._rows["id"]:
            columns = [np.concatenate(self._lines[field.name]) for field in self._line_schema]
            arrays = [pa.array(c, f.type, safe=False) for c, f in zip(columns, self._line_schema, strict=True)]
            self._write(LINES_FILE, self._line_schema, arrays)
        for values in (*self._rows.values(), *self._lines.values()):
            values.clear()
        self._line_count = 0

    def _write(self, name: str, schema: Any, arrays: list[Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(self._folder / name, schema, compression="zstd")
        self._writers[name].write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=1 << 30)

    def close(self) -> None:
        """Write what is left; a corpus in which nothing was judged has no score file."""
        self._flush()
        for writer in self._writers.values():
            writer.close()


def require_scores(corpus: Artifact) -> None:
    """ConfigError for a corpus that no rules were applied to."""
    if corpus.kind != "corpus" or not (corpus.path / SCORES_FILE).is_file():
        raise ConfigError(
            f"{corpus.name} has no scores", hint="only a corpus that was curated with a profile has: curate --profile"
        )


def read_scores(corpus: Artifact) -> Iterator[tuple[Any, Any]]:
    """(table of documents, table of their lines or None), a row group at a time.

    ConfigError for a corpus without scores, DataError for damaged ones.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_scores(corpus)
    path = corpus.path / SCORES_FILE
    try:
        with pq.ParquetFile(path) as documents:
            lines = pq.ParquetFile(corpus.path / LINES_FILE) if (corpus.path / LINES_FILE).is_file() else None
            for group in range(documents.num_row_groups):
                yield documents.read_row_group(group), lines.read_row_group(group) if lines else None
            if lines:
                lines.close()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read the scores of {corpus.name}: {error}", hint="curate it again") from error
