"""MixConfig: in what proportions, how often and in what order the training documents stand. This module mixes none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from bloomery.core.errors import ConfigError, nearest

OTHERS = "*"
MIX_VERSION = "mix 1"  # raised when the same config gives another mix
_PREFIXES = ("code:", "hf:")


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Shares are of `unit`. Where several are asked for at once, the mix is the nearest to the corpus as it is (in
    relative entropy) that has them all, as far as the limits on repetition let it."""

    weights: dict[str, Any] = field(default_factory=dict)
    """Shares of sources in proportion: a file, a folder or a glob each, "*" for all others. The first that fits a
    document counts. Empty: as much as there is of each."""
    temperature: float = 0.0
    """Languages get shares in proportion to n ** (1 / temperature) of what there is of them: 1 as it is, 3.3 as in mT5
    (.3), 100 almost even. 0: languages are not looked at."""
    domains: dict[str, Any] = field(default_factory=dict)
    """Shares of sites, from 0 to 1 (`"wikipedia.org" = 0.2`, its subdomains with it); the others share the rest."""
    max_epochs: float = 4.0
    """No document stands more often than this, on average over those like it (of one source, language and site)."""
    epochs: dict[str, Any] = field(default_factory=dict)
    """The same limit for sources, named as in `weights`."""
    size: int = 0
    """How much there should be of `unit` in training; 0: as much as without mixing."""
    unit: Literal["bytes", "documents"] = "bytes"
    """Of UTF-8 text. Tokens are not known before there is a tokenizer."""
    language_field: str = "language"
    """Metadata that says the language; documents without it are identified (py3langid)."""
    domain_field: str = "url"
    """Metadata with the URL or the name of the site."""
    shuffle: bool | None = None
    """Whether training documents stand in random order. Left out: yes, if anything else is asked for here."""
    seed: int = 0
    """Decides the order, and which documents are repeated or left out."""
    bucket_bytes: int = 128 * 1024 * 1024
    """Memory that shuffling takes, about; the same order whatever it is."""

    def __post_init__(self) -> None:
        for name, least in (("weights", 0.0), ("domains", 0.0), ("epochs", 0.0)):
            for key, value in getattr(self, name).items():
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not number or not least <= value < float("inf"):
                    hint = (
                        f'{name} = {{"{"a.org" if name == "domains" else "folder"}" = 0.5}}: a name with dots in quotes'
                    )
                    raise ConfigError(f'"mix.{name}" of {key} should be a number from 0, not {value!r:.40}', hint=hint)
        if self.weights and not sum(self.weights.values()):
            raise ConfigError('"mix.weights" are all 0', hint="give one source a weight above 0")
        if sum(self.domains.values()) > 1 + 1e-9:
            raise ConfigError('"mix.domains" are more than 1 together', hint="they are shares of the whole")
        if self.temperature and not 0.1 <= self.temperature <= 1e6:
            raise ConfigError(f'"mix.temperature" is {self.temperature:g}, but should be 0 (off) or from 0.1')
        if not 0 < self.max_epochs <= 1000:
            raise ConfigError(f'"mix.max_epochs" is {self.max_epochs:g}, but should be above 0 and up to 1,000')
        if not 0 <= self.size < 1 << 60:
            raise ConfigError(f'"mix.size" is {self.size}, but should be 0 or more')
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f'"mix.seed" is {self.seed}, but should be from 0 to 2**63')
        if not 1024 <= self.bucket_bytes <= 1 << 40:
            raise ConfigError(f'"mix.bucket_bytes" is {self.bucket_bytes:,}, but should be 1,024 or more')

    @property
    def weighs(self) -> bool:
        """Whether anything but the order is asked for."""
        return bool(self.weights or self.temperature or self.domains or self.epochs or self.size)

    @property
    def shuffles(self) -> bool:
        return self.weighs if self.shuffle is None else self.shuffle

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return self.weighs or self.shuffles

    def check_sources(self, sources: Iterable[str]) -> None:
        """ConfigError, before anything is read, for a name that fits no source, and for a source without weight."""
        known = [_bare(source) for source in sources]
        for table in ("weights", "epochs"):
            for key in getattr(self, table):
                if key != OTHERS and not any(_touches(_bare(key), source) for source in known):
                    raise ConfigError(f'"mix.{table}" names {key}, which is no source', hint=nearest(key, known))
        if self.weights and OTHERS not in self.weights:
            for source in known:
                if not any(_touches(_bare(key), source) for key in self.weights):
                    raise ConfigError(f'"mix.weights" gives {source} none', hint='"*" = 1 is that of all others')


def source_key(table: Mapping[str, Any], source: str) -> str | None:
    """The key of a table of sources that a document's source fits: the first, "*" last; None if none does."""
    for key in table:
        if key != OTHERS and _fits(_bare(key), source):
            return key
    return OTHERS if OTHERS in table else None


def _bare(source: str) -> str:
    for prefix in _PREFIXES:
        source = source.removeprefix(prefix)
    return source.partition("#")[0].rstrip("/") or source


def _fits(key: str, source: str) -> bool:
    source = _bare(source)
    return source == key or source.startswith((f"{key}/", f"{key}:")) or fnmatchcase(source, key)


def _touches(key: str, source: str) -> bool:
    """Whether a key may be about documents of a source: one holds the other, or either is a pattern."""
    if any(c in "*?[" for c in key + source):
        return True
    return _fits(key, source) or _fits(source, key)
