"""StopStrings: find the first stop string in text that arrives in pieces.

Text that may be the beginning of a stop string is held back until it is decided, so nothing of a stop string is
ever shown. This module does not know tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Feed it text; it returns the text that is safe to show. `found` is the stop string that ended it, or None."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that can be shown now. After a stop string was found nothing more comes out."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        hits = [(place, -len(stop), stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if hits:
            place, _, self.found = min(hits)
            shown, self._held = self._held[:place], ""
            return shown
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back: the text has ended without a stop string."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
