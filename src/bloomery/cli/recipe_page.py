"""Writes docs/recipe.md, every key of a recipe: `python -m bloomery.cli.recipe_page > docs/recipe.md`.

`bloomery run --keys TABLE` prints the same (`keys_of`). What stands there are the docstrings below the fields of the
configs. A test checks that the file is up to date. This module does not know what a key does.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import typing
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from bloomery.core.errors import ConfigError, nearest

_HEAD = """\
# Recipe

Written by `python -m bloomery.cli.recipe_page`.

A recipe is a TOML file with a table per stage; every key may be left out. `bloomery run recipe.toml` reads it, other
verbs with `--recipe recipe.toml`, and `--set train.fit.steps=200` sets one key on the command line. A key that is not
listed here is an error.
"""
_BASES: dict[Any, str] = {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: ""}


def recipe_page() -> str:
    """Markdown with a section per table of a recipe: key, default, kind and meaning."""
    from bloomery.cli.chain import SCHEMA

    parts = [_HEAD]
    for name, config in SCHEMA.items():
        for table, cls in _tables(name, config):
            about = _first_paragraph(cls)
            about = f"{about}\n\n" if about else ""
            parts.append(f"\n## [{table}]\n\n{about}| key | default | kind | meaning |\n|---|---|---|---|\n")
            parts += [_row(*row) for row in _keys(cls)]
    return "".join(parts)


def keys_of(wanted: str) -> list[dict[str, str]]:
    """Key (in full), default, kind and meaning of a table ("curate", "curate.dedup", "dedup") and those inside it, or
    of "all". ConfigError for one that is not there."""
    from bloomery.cli.chain import SCHEMA

    tables = [table for name, config in SCHEMA.items() for table in _tables(name, config)]
    found = [
        {"key": f"{table}.{key}", "default": default, "kind": kind.replace("`", ""), "meaning": meaning}
        for table, cls in tables
        if wanted == "all" or f".{wanted}." in f".{table}."
        for key, default, kind, meaning in _keys(cls)
    ]
    if not found:
        raise ConfigError(
            f'no table "{wanted}" in a recipe',
            hint=nearest(wanted, {part for table, _ in tables for part in (table, table.split(".")[-1])}),
        )
    return found


def field_docstrings(cls: type) -> dict[str, str]:
    """What stands below each field of a class's body, on one line; "" where nothing does."""
    (body,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            said = after.value if isinstance(after, ast.Expr) else None
            text = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
            found[node.target.id] = " ".join(text.split())
    return found


def _first_paragraph(cls: type) -> str:
    """Of the class's docstring; a dataclass without one has its signature there, which is none."""
    text = inspect.getdoc(cls) or ""
    return "" if text.startswith(f"{cls.__name__}(") else " ".join(text.split("\n\n")[0].split())


def _tables(name: str, cls: type) -> Iterator[tuple[str, type]]:
    """A table and those inside it, depth first."""
    yield name, cls
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner):
            yield from _tables(f"{name}.{field.name}", typing.cast(type, inner))


def _keys(cls: type) -> Iterator[tuple[str, str, str, str]]:
    hints, said = typing.get_type_hints(cls), _all_docstrings(cls)
    for field in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(hints[field.name]):
            yield field.name, _default(field), _kind(hints[field.name]), said.get(field.name, "")


def _all_docstrings(cls: type) -> dict[str, str]:
    """Those of the classes that a config is made from, too."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= field_docstrings(base)
    return found


def _row(key: str, default: str, kind: str, meaning: str) -> str:
    cells = [cell.replace("|", "\\|") for cell in (f"`{key}`", f"`{default}`" if default else "", kind, meaning)]
    return "| " + " | ".join(cells) + " |\n"


def _default(field: dataclasses.Field[Any]) -> str:
    """As TOML writes it; "" for None, and where a key has to be given."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING or value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str)


def _kind(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(kind for kind in map(_kind, get_args(hint)) if kind))
    if origin is tuple:
        return f"list of {_kind(get_args(hint)[0])}"
    if origin is dict or hint is dict:
        return "table"
    return _BASES.get(hint, "any")


if __name__ == "__main__":
    print(recipe_page(), end="")
