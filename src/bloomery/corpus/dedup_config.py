"""DedupConfig: which repeated texts are taken out, beside exact copies of documents. This module takes none out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bloomery.core.errors import ConfigError

_VERSION = 2  # raised when what is taken out changes; 2: more scripts without spaces
_MOST_VALUES = 10_000  # RefinedWeb has 9,000


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    urls: bool = False
    """Keep the first of the documents with the same URL (but for scheme, www, campaign parameters, fragment and slash
    at its end)."""
    url_field: str = "url"
    """The document's metadata that holds its URL."""
    lines: bool = False
    """Take out lines that an earlier line of the corpus equals, but for case and white space at either end."""
    paragraphs: bool = False
    """Take out paragraphs (between blank lines) that an earlier one equals, but for case and white space."""
    min_characters: int = 20
    """Shorter lines and paragraphs stay wherever they are; C4 has 1."""
    near: bool = False
    """Of documents that are nearly the same (MinHash over runs of words) keep the first of each cluster."""
    near_words: int = 5
    """Words of a run; where a script has no spaces, characters."""
    near_bands: int = 14
    """Two documents of similarity s (Jaccard, of their sets of runs) meet with probability
    1 - (1 - s**rows)**bands: .56 at .7, .92 at .8, .9996 at .9."""
    near_rows: int = 8
    """Values a band: more make the curve steeper and move it to the right, as more bands move it to the left."""
    near_similarity: float = 0.0
    """Documents that meet are alike only if their estimated similarity is at least this; 0: all that meet are."""
    substring_words: int = 0
    """Cut runs of at least this many words (between white space; characters, where a script has no spaces) that
    occurred before in the corpus; 0 is off, Lee et al. (2022) have 50 tokens."""
    evaluation: tuple[str, ...] = ()
    """Evaluation files, folders or globs: no document may hold what they hold. One that cannot be read, or holds no
    text, is an error."""
    evaluation_words: int = 13
    """Words in a row that a document and an evaluation text must not share. A text of fewer, but 8 or more, must not be
    in it whole; one of fewer still must not be the document."""

    def __post_init__(self) -> None:
        limits = {
            "min_characters": (1, 1 << 20),
            "near_words": (1, 100),
            "near_bands": (1, 1000),
            "near_rows": (1, 100),
            "near_similarity": (0.0, 1.0),
            "substring_words": (0, 100_000),
            "evaluation_words": (1, 1000),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')
        if (values := self.near_bands * self.near_rows) > _MOST_VALUES:
            raise ConfigError(
                f'"near_bands" times "near_rows" is {values:,}, but should be at most {_MOST_VALUES:,}',
                hint="14 bands of 8 is FineWeb's choice",
            )
        if 0 < self.substring_words < 5:
            raise ConfigError(
                f'"substring_words" is {self.substring_words}: runs that short are common language',
                hint="5 or more, 50 as in the paper, or 0 for off",
            )
        if any(not name.strip() for name in self.evaluation):
            raise ConfigError("an evaluation file's name is empty", hint="name a file, a folder or a glob")

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return self.urls or self.lines or self.paragraphs or self.near or bool(self.substring_words or self.evaluation)

    def stamp(self) -> list[str]:
        """What a result depends on beside the config."""
        return [f"dedup {_VERSION}"] if self.active else []

    def files(self) -> list[Path]:
        """The files that the result depends on."""
        from bloomery.corpus.evaluation_files import evaluation_files

        return evaluation_files(self.evaluation)
