"""FilterConfig: which rules documents are held to, with what thresholds and lists. This module applies none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.corpus.profiles import CLASSIFIER, GIVEN_SCORE, PROFILES, rules_of
from bloomery.corpus.rule import Rule, with_thresholds

_VERSION = 1  # raised when what a rule measures changes
_PARAGRAPHS_VERSION = 2  # 2: kept with the scores, and short ones in scripts without spaces


def _holds_classifier(folder: Path) -> bool:
    from bloomery.corpus.classifier import CONFIG_FILE  # which imports more than a config should

    return (folder / CONFIG_FILE).is_file()


_TABLE = "a table with {} and score: CSV, TSV, JSONL or Parquet"
_GIVEN: dict[str, tuple[Callable[[Path], bool], str]] = {
    "bad_words": (Path.exists, "a folder with a list a language (en, de, ...), or one file for all"),
    "links": (Path.is_file, _TABLE.format("url")),
    "classifier": (_holds_classifier, "bloomery curate LABELS --fit-classifier FOLDER makes one"),
    "scores": (Path.is_file, f"{_TABLE.format('id')}; --score-with MODEL writes one"),
}


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    profile: str = ""
    """Rules by name: c4-tfds, c4-paper, gopher, fineweb, mc4, code, bio, webtext; "" for none."""
    rules: dict[str, Any] = field(default_factory=dict)
    """Thresholds that differ from the profile's, by rule; "off" leaves a rule out."""
    languages: tuple[str, ...] = ()
    """Languages wanted (ISO 639-1), for profiles with a rule on language; empty: the profile's (English; mc4 any)."""
    identify: bool = False
    """Identify languages even where no rule asks for them."""
    paragraph_languages: bool = False
    """Identify the language of each paragraph too, kept as metadata."""
    bad_words: str = ""
    """A folder with a list of bad words a language (`en`, `de`, ...), or one file for all; "" leaves that rule out."""
    links: str = ""
    """A table of links with scores (url, score) for webtext: CSV, TSV, JSONL or Parquet."""
    url_field: str = "url"
    """The document's metadata that holds its URL."""
    classifier: str = ""
    """A folder with a classifier of quality: adds the rule "classifier"."""
    scores: str = ""
    """A table of documents with scores (id, score), which some other model wrote: adds the rule "score"."""

    def __post_init__(self) -> None:
        if self.profile:
            rules_of(self.profile)
        elif self.rules and not (self.classifier or self.scores):
            raise ConfigError("rules have thresholds, but no profile is given", hint=f"profile is one of {_names()}")
        if self.profile == "webtext" and not self.links:
            raise ConfigError("the profile webtext needs a table of links with scores", hint="filter.links = FILE")
        self.applied()

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.profile or self.classifier or self.scores or self.identifies)

    @property
    def identifies(self) -> bool:
        """Whether languages are to be identified."""
        asked = self.identify or self.paragraph_languages
        return asked or (bool(self.profile) and any(rule.name.endswith("_language") for rule in self.applied()))

    def applied(self) -> tuple[Rule, ...]:
        """The rules in their order, with their thresholds. ConfigError for a rule that there is not."""
        rules = rules_of(self.profile) if self.profile else ()
        rules += (CLASSIFIER,) if self.classifier else ()
        rules += (GIVEN_SCORE,) if self.scores else ()
        return with_thresholds(rules, self.rules, profile=self.profile or "(none)")

    def wanted_languages(self) -> tuple[str, ...]:
        """The languages that a rule on language wants; empty for any."""
        return self.languages or (() if self.profile == "mc4" else ("en",))

    def stamp(self) -> list[str]:
        """What a result depends on beside the config: the rules as they are in this version of the code."""
        said = [f"rules {_VERSION}", *(rule.says() for rule in self.applied())] if self.active else []
        return [*said, f"paragraphs {_PARAGRAPHS_VERSION}"] if self.paragraph_languages else said

    def files(self) -> list[Path]:
        """The files that the result depends on. ConfigError, naming the key, for what is not there."""
        found: list[Path] = []
        for key, (is_there, hint) in _GIVEN.items():
            if not (given := getattr(self, key)):
                continue
            try:
                path = Path(given).expanduser()
                wrong = "" if is_there(path) else "is no such thing" if path.exists() else "is not there"
            except (OSError, ValueError, RuntimeError) as error:  # a name too long, no such user
                raise ConfigError(f"filter.{key}: {given!r:.200} is no path: {error}", hint=hint) from error
            if wrong:
                raise ConfigError(f"filter.{key}: {given} {wrong}", hint=hint)
            found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return found


def _names() -> str:
    return ", ".join(PROFILES)
