"""ConstraintOptions: the flags that say which texts are allowed. This module does not know how they are kept to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bloomery.core.errors import ConfigError

_MAX_FILE_BYTES = 1_000_000


@Parameter(name="*")
@dataclass(kw_only=True)
class ConstraintOptions:
    """At most one of them."""

    json_schema: Annotated[
        str | None, Parameter(help="Only JSON that this schema allows; a file, or the schema itself.")
    ] = None
    regex: Annotated[str | None, Parameter(help="Only a text that this regular expression matches as a whole.")] = None
    grammar: Annotated[
        str | None,
        Parameter(help="Only a text of this grammar, in llguidance's dialect of Lark; a file, or the grammar."),
    ] = None
    choice: Annotated[list[str] | None, Parameter(negative=(), help="Only this text. May be repeated.")] = None

    def constraint(self) -> dict[str, Any] | None:
        """The engine's constraint, or None. ConfigError for two of them, or a file that cannot be read."""
        given = {
            "json_schema": None if self.json_schema is None else _text(self.json_schema, "--json-schema", "{"),
            "regex": self.regex,
            "grammar": None if self.grammar is None else _text(self.grammar, "--grammar", ":"),
            "choice": self.choice or None,
        }
        found = {name: value for name, value in given.items() if value is not None}
        if len(found) > 1:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in found)
            raise ConfigError(f"{names} exclude each other", hint="leave one of them")
        return found or None


def _text(value: str, flag: str, mark: str) -> str:
    """The content of a file, or the value itself if it holds what every such text has."""
    if mark in value or value.strip() in ("true", "false"):
        return value
    path = Path(value)
    try:
        if not path.is_file():
            raise ConfigError(f"{flag}: no such file: {value:.200}", hint="check the spelling")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{flag}: {path} is larger than {_MAX_FILE_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{flag}: cannot read {value:.200}", hint="give a text file in UTF-8") from error
