"""Rows: from a row with named fields (of JSONL, Parquet, CSV) to a document.

`text_field` names the text, `metadata_fields` what is kept beside it; dots reach into nested fields. This module does
not know files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bloomery.core.config import canonical_json
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.problems import Problems

_MAX_INVALID_SHARE = 0.01


def tolerable(invalid: int, text: str, where: str, problems: Problems) -> bool:
    if invalid > _MAX_INVALID_SHARE * len(text):
        problems.add("other_encoding", where, f"{invalid:,} of {len(text):,} characters are invalid; set encoding")
        return False
    problems.add("invalid_bytes", where, f"{invalid:,} replaced")
    return True


def row_document(
    row: Mapping[str, Any], metadata: dict[str, Any], name: str, where: str, config: CurateConfig, problems: Problems
) -> Iterator[Document]:
    text = field_of(row, config.text_field)
    if not isinstance(text, str):
        keys = ", ".join(list(row)[:8])
        problems.add("missing_text", where, f'no string in "{config.text_field}"; there is: {keys}')
        return
    clean = readable(text)
    if clean != text:
        problems.add("invalid_bytes", where, "lone surrogates replaced")
    for field in config.metadata_fields:
        value = field_of(row, field)
        if value is not None:
            metadata[field] = plain_value(value)
    yield Document.of(clean, name, metadata)


def field_of(row: Mapping[str, Any], field: str) -> Any:
    if field in row:
        return row[field]
    value: Any = row
    for key in field.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def plain_value(value: Any) -> Any:
    """The value if it is JSON data, else its text (dates, NaN)."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError, RecursionError):
        return str(value)
