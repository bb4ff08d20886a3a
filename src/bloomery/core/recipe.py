"""Recipe: one TOML file with a table per stage, read strictly into frozen dataclasses.

An unknown table or key is an error that names the nearest known one. `--set table.key=value` overrides a key.
There is no inheritance between files. This module does not know which tables there are: a schema (table name to
dataclass) is handed to it by the floor that knows every stage.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bloomery.core.config import from_dict, parse_scalar
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.toml_file import read_toml

C = TypeVar("C")


@dataclass(frozen=True)
class Recipe:
    """`tables` holds one config for every table of the schema; a table the file lacks has its defaults."""

    name: str
    path: Path | None
    tables: Mapping[str, Any]
    given: frozenset[str]
    keys: frozenset[str] = frozenset()
    """Every key that the file or an override sets, in full: "train.net.hidden_size"."""

    def table(self, name: str, cls: type[C]) -> C:
        """The config of a table, checked to be of the class that its stage takes."""
        config = self.tables[name]
        if not isinstance(config, cls):
            raise TypeError(f"table {name} is {type(config).__name__}, not {cls.__name__}")
        return config


def load_recipe(path: str | Path | None, schema: Mapping[str, type], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (or none, for defaults alone) and apply `table.key=value` overrides in order.

    Raises ConfigError naming the file or the override, and the line where TOML itself is broken.
    """
    document: dict[str, Any] = {}
    if path is not None:
        document = read_toml(path, missing="no recipe at", hint="recipes/ holds some to begin with")
    name = str(document.pop("name", Path(path).stem if path is not None else "defaults"))
    given = frozenset(document)
    for table in document:
        if table not in schema:
            raise ConfigError(f'unknown table "[{table}]"{_in(path)}', hint=nearest(table, schema))
        if not isinstance(document[table], Mapping):
            raise ConfigError(f'"{table}" should be a table{_in(path)}', hint=f"write [{table}] and its keys below")
    stated = copy.deepcopy(document)
    for override in overrides:
        _apply(document, override, schema)
    tables = {}
    for table, cls in schema.items():
        try:
            tables[table] = from_dict(cls, document.get(table, {}), where=table)
        except ConfigError as error:
            blamed = _blamed(cls, table, stated, overrides, schema)
            where = f" (--set {blamed})" if blamed else _in(path)
            raise ConfigError(error.message + where, hint=error.hint) from error
    place = Path(path) if path is not None else None
    return Recipe(name=name, path=place, tables=tables, given=given, keys=frozenset(_leaves(document)))


def _blamed(
    cls: type, table: str, document: dict[str, Any], overrides: Sequence[str], schema: Mapping[str, type]
) -> str:
    """The override with which a table that was sound ceases to be; "" where the file's own is not sound."""
    for override in ("", *overrides):
        if override:
            _apply(document, override, schema)
        try:
            from_dict(cls, document.get(table, {}), where=table)
        except ConfigError:
            return override
    return ""


def _leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _apply(document: dict[str, Any], override: str, schema: Mapping[str, type]) -> None:
    key, equals, text = override.partition("=")
    table, dot, name = key.strip().partition(".")
    if not (equals and dot and table and name):
        raise ConfigError(f'--set takes table.key=value, not "{override}"', hint="--set pretrain.minutes=2")
    if table not in schema:
        raise ConfigError(f'unknown table "{table}" in --set {override}', hint=nearest(table, schema))
    target = document.setdefault(table, {})
    *path, last = name.split(".")
    for part in path:
        target = target.setdefault(part, {}) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ConfigError(f'"{key}" is not inside a table', hint="--set table.key=value")
    target[last] = parse_scalar(text.strip())


def _in(path: str | Path | None) -> str:
    return f" in {path}" if path is not None else ""
