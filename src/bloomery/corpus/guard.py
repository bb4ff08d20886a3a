"""Guard: what stands between a reader and the libraries that take hostile pages apart.

A page that makes a library hang or crash must cost that page alone. Here nothing is done about it: the worker of a
pool (`reader_worker`) has a guard that says what it is about to do, limits the processor time, and knows from its
parent which pages have killed a worker before. This module does not know pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import BloomeryError


class Refused(Exception):
    """A record that gives no document: `reason` is a short word. `broken` says that the source is at fault, so that
    it counts as a problem; otherwise it is simply no text (a picture, an error page)."""

    def __init__(self, reason: str, detail: str = "", *, broken: bool = False) -> None:
        super().__init__(detail or reason)
        self.reason, self.detail, self.broken = reason, detail, broken


@dataclass(frozen=True)
class Page:
    """The text of a page and what is known about it, as plain JSON data."""

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


class Guard:
    """Runs what takes a page apart, in this process and without limits."""

    def run(self, where: str, extract: Callable[[], Page]) -> Page:
        """`extract()`, or Refused for what it raised; `where` names the record."""
        del where
        return contained(extract)


def contained(extract: Callable[[], Page]) -> Page:
    """`extract()`; whatever a library raises about a page is a refusal of that page."""
    try:
        return extract()
    except (Refused, BloomeryError, ImportError):
        raise
    except RecursionError:
        raise Refused("too_deep", "its elements are nested too deeply", broken=True) from None
    except MemoryError:
        raise Refused("too_large", "out of memory", broken=True) from None
    except Exception as error:  # libraries that read hostile input raise anything
        raise Refused("extraction_failed", f"{type(error).__name__}: {error}"[:200], broken=True) from error
