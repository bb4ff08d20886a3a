"""A small TOML file that a person wrote: read whole, or an error that names it.

This module does not know what is in it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError

_MAX_BYTES = 1024 * 1024


def read_toml(path: str | Path, *, missing: str = "no such file:", hint: str = "a TOML file") -> dict[str, Any]:
    """Its tables and keys. ConfigError naming the file, and the line where TOML itself is broken; for a file that is
    not there it says `missing` before its path, with the hint."""
    path = Path(path)
    try:
        path = path.expanduser()
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is too large: more than {_MAX_BYTES >> 20} MiB", hint=hint)
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{missing} {path}", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except (ValueError, RuntimeError) as error:  # a NUL byte in the name, or ~ of nobody
        raise ConfigError(f"{str(path)!r} is not a path: {error}", hint=hint) from error
