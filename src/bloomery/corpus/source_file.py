"""SourceFile: a file that a source names, and what the source says about it. This module does not know sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SourceFile:
    """`named` says that the user gave this very path, so that a file that cannot be read at all is an error.

    `kind` is the format where the source decides it, else ""; `metadata` goes into every document of the file.
    """

    path: Path
    named: bool
    kind: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
