"""TokenizerPair: what a sequence-to-sequence model reads with and what it writes with, which may be one.

A model's folder holds the source's tokenizer as any model's does, and a target's of its own in the folder `target`
beside it. This module does not know models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bloomery.tokenizer.tokenizer import Tokenizer

TARGET_FOLDER = "target"


@dataclass(frozen=True)
class TokenizerPair:
    """`target` is `source` where one tokenizer serves both."""

    source: Tokenizer
    target: Tokenizer

    @property
    def shared(self) -> bool:
        """Whether one tokenizer serves both."""
        return self.target is self.source

    @classmethod
    def load(cls, folder: str | Path) -> TokenizerPair:
        """The tokenizers of a model's folder. Errors as `Tokenizer.load`'s."""
        source, other = Tokenizer.load(folder), Path(folder) / TARGET_FOLDER
        return cls(source, Tokenizer.load(other) if other.is_dir() else source)

    def save(self, folder: str | Path) -> None:
        """Write what `load` reads."""
        self.source.save(folder)
        if not self.shared:
            self.target.save(Path(folder) / TARGET_FOLDER)
