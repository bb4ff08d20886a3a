"""The errors that a user can meet, and what each one means.

    BloomeryError            anything below; always one line, with a hint
    ├── ConfigError          a recipe, a flag or an argument is wrong
    ├── DataError            documents, shards or weights cannot be read or make no sense
    ├── ArtifactError        an artifact is missing, damaged or cannot be written
    │   ├── DamagedError     an artifact's files are not what its manifest says
    │   └── InUseError       another process is at the very same work
    ├── DeviceError          the machine lacks what was asked for, or ran out of it
    ├── MissingExtraError    an optional package is not installed; the hint is the pip line
    ├── TrainingError        training stopped before a step that would have done harm
    └── RequestError         an engine or server request is invalid

What this module does not know: how an error is shown. The command line prints `str(error)` and the hint
and exits with code 2; the server turns it into the OpenAI error object.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from bloomery.core.printable import printable


class BloomeryError(Exception):
    """Base of every error that is the user's to mend.

    `message` says what is wrong in one line; `hint` says what to do next (may be empty).
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def one_line(self) -> str:
        """The message and the hint on a single line, control characters made visible."""
        text = f"{self.message} ({self.hint})" if self.hint else self.message
        return printable(text)


class ConfigError(BloomeryError):
    """A recipe key, flag or argument is unknown, mistyped or out of range."""


class DataError(BloomeryError):
    """Input data cannot be read, is truncated, or is not what it claims to be."""


class ArtifactError(BloomeryError):
    """An artifact is missing or damaged, or there is no room or permission to publish it."""


class DamagedError(ArtifactError):
    """An artifact's files are not what its manifest says: changed, truncated or missing."""


class InUseError(ArtifactError):
    """Another process is at the very same work, and holds its lock."""


class DeviceError(BloomeryError):
    """The device, its memory or a port on it is not available."""


class MissingExtraError(BloomeryError):
    """An optional dependency is missing."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed",
            hint=f'pip install "bloomery[{extra}]"',
        )


class TrainingError(BloomeryError):
    """Training was stopped to protect the model: the last good checkpoint is kept."""


class RequestError(BloomeryError):
    """A generation request is invalid.

    `param` names the offending field and `code` is a short machine-readable reason; both go
    unchanged into the OpenAI error object. `status` is the HTTP status that fits.
    """

    def __init__(
        self, message: str, *, hint: str = "", param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.code = code
        self.status = status


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean "..."?` for the known word nearest to `word`, or the list of known words."""
    options = sorted(known)
    match = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if match:
        return f'did you mean "{match[0]}"?'
    return "known: " + ", ".join(options)
