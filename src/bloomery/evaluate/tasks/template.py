"""Template: a prompt, or a value, made of a row of data by Jinja in a sandbox.

This module does not know what the row is of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer.sandbox import RefusedError, TemplateSandbox


def _of_wikihow(text: str) -> str:
    """What HellaSwag's texts are without WikiHow's marks."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[[^\n]*?\]", "", text).replace("  ", " ")


def _places_of(values: Sequence[Any], wanted: Any) -> list[int]:
    """Where a list has a value."""
    return [place for place, value in enumerate(values) if value == wanted]


_FILTERS = {"of_wikihow": _of_wikihow, "places_of": _places_of}


@lru_cache(maxsize=1024)
def _compiled(source: str) -> TemplateSandbox:
    try:
        return TemplateSandbox(source, exact=True, filters=_FILTERS)
    except RefusedError as error:
        raise ConfigError(f"{source!r:.80} is no template: {error}") from None


def text_of(source: str, row: Mapping[str, Any], *, where: str) -> str:
    """A template filled in: white space as it stands. DataError, with `where`, for a row that it does not fit."""
    try:
        return _compiled(source).render(**row)
    except RefusedError as error:
        raise DataError(f"{where} does not fit {source!r:.60}: {error}") from None


def value_of(expression: str, row: Mapping[str, Any], *, where: str) -> Any:
    """What an expression is for a row, as plain data: `choices.text`, `label | int`. DataError as `text_of`."""
    return json.loads(text_of("{{ (" + expression + ") | tojson }}", row, where=where))
