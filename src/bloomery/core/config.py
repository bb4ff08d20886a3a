"""Configs: frozen, keyword-only dataclasses to and from plain data, strictly.

An unknown key is an error that names the nearest known one; a wrong type is an error that names the key.
This module does not know TOML files or stages (see `recipe`), nor untrusted JSON (the server uses pydantic).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from bloomery.core.errors import ConfigError, nearest

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON data; tuples become lists. ConfigError for a number that is not finite."""
    values = dataclasses.asdict(config)
    if key := _not_finite(values):
        raise ConfigError(f'"{key}" should be a finite number')
    return json.loads(canonical_json(values))


def _not_finite(value: Any, key: str = "") -> str:
    """Where in plain data a number stands that is not finite; "" where none does."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else key
    inside = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    return next((found for name, one in inside if (found := _not_finite(one, f"{key}.{name}".lstrip(".")))), "")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    # Lone surrogates (a file name that is not UTF-8) become the escapes that JSON has for them.
    return hashlib.sha256(canonical_json(value).encode("utf-8", "backslashreplace")).hexdigest()


def from_dict(cls: type[C], values: Mapping[str, Any], *, where: str = "") -> C:
    """Build the dataclass `cls` from plain data.

    `where` prefixes key names in errors (a recipe's table). Raises ConfigError for an unknown key, a missing
    required key, a value of the wrong type, or whatever ConfigError the class's own `__post_init__` raises.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            raise ConfigError(f'unknown key "{prefix}{key}"', hint=nearest(key, fields))
    hints = typing.get_type_hints(cls)
    arguments = {key: _coerce(value, hints[key], prefix + key) for key, value in values.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in arguments:
            raise ConfigError(f'missing key "{prefix}{name}"', hint=f"add {name} = ... to the table")
    return cls(**arguments)


def check_choices(config: Any, *, where: str = "") -> None:
    """ConfigError for a field of a dataclass whose value is none of its Literal's: for configs that are made in Python,
    which looks at none of them. `where` as in `from_dict`."""
    for name, options in _choices(type(config)):
        _chosen(getattr(config, name), options, f"{where}.{name}" if where else name)


@functools.cache
def _choices(cls: type) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((name, get_args(hint)) for name, hint in hints.items() if get_origin(hint) is Literal)


def _chosen(value: Any, options: tuple[Any, ...], key: str) -> Any:
    if value in options:
        return value
    raise ConfigError(f'"{key}" cannot be {value!r:.60}', hint=nearest(str(value), [str(one) for one in options]))


def parse_scalar(text: str) -> Any:
    """A `--set` value: TOML syntax when it parses, else the text itself."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _coerce(value: Any, hint: Any, key: str) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, hint, key)
    if origin is Literal:
        return _chosen(value, get_args(hint), key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _mismatch(value, hint, key)
        item = get_args(hint)[0]
        return tuple(_coerce(v, item, f"{key}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _mismatch(value, hint, key)
        return from_dict(typing.cast(type, hint), value, where=key)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise _mismatch(value, hint, key)
        return dict(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, key)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _mismatch(value, hint, key)


def _finite(value: float, key: str) -> float:
    """TOML knows nan and inf, and integers beyond a float; a stage's key, which is JSON, knows none of them."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f'"{key}" should be a finite number')
    return number


def _coerce_union(value: Any, hint: Any, key: str) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    for option in options:
        if option is type(None):
            continue
        try:
            return _coerce(value, option, key)
        except ConfigError:
            if len(options) == 2 and type(None) in options:
                raise
    raise _mismatch(value, hint, key)


def _mismatch(value: Any, hint: Any, key: str) -> ConfigError:
    table = dataclasses.is_dataclass(hint) or hint is dict or get_origin(hint) is dict
    name = "a table" if table else "a list" if get_origin(hint) is tuple else getattr(hint, "__name__", str(hint))
    quoted = json.dumps(str(value)[:60], ensure_ascii=False)
    remedy = ""
    if name == "a list" and isinstance(value, str):
        remedy = f"[{quoted}]"
    elif name == "str" and isinstance(value, (int, float)):
        remedy = f"with quotes: {quoted}"
    return ConfigError(f'"{key}" should be {name}, not {type(value).__name__} ({value!r:.60})', hint=remedy)
