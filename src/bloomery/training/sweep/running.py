"""Running: how many trials run at this moment, in a small file of the workspace that each of them reads.

They divide the machine's counters between them (see `energy.sharing`), wherever their processes are. This module does
not know trials.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Running:
    """The number in a file; called, what of it is on one of so many `nodes`, at least 1."""

    path: Path
    nodes: int = 1

    def write(self, trials: int) -> None:
        """Say how many run. Where the disk takes no number, there is none, rather than one that is no longer so."""
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            partial.write_text(str(trials))
            partial.replace(self.path)
        except OSError:
            self.clear()

    def clear(self) -> None:
        """Nobody runs any more, or nobody knows."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __call__(self) -> int:
        """Who cannot know counts as alone: it then has too many joules, not too few."""
        try:
            trials = int(self.path.read_text())
        except (OSError, ValueError):
            return 1
        return max(1, -(-trials // max(1, self.nodes)))
