"""Card: what is in a corpus, where it came from and what was taken out, as plain data from the artifact alone.

It is made when it is asked for, so a corpus made before there were cards has one too, and its bytes stay as they are.
All documents are read once. What a card shows may be published: of paths only what lies below the sources is said, and
in its examples personal data of every kind that `personal` finds is masked, whatever the corpus itself keeps.
This module does not know Markdown (`card_page`).
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.core.printable import printable
from bloomery.corpus.document import Document
from bloomery.corpus.language import LanguageIdentifier
from bloomery.corpus.personal import Scrubber
from bloomery.corpus.personal_config import PersonalConfig
from bloomery.corpus.scores import site_of
from bloomery.corpus.shards import read_documents
from bloomery.corpus.shuffle import row_key
from bloomery.corpus.split import SPLITS

FORMAT = 1
UNKNOWN = "unknown"
_LISTED = 30
_IDENTIFIED = 500
_EXCERPT = 400
_CLEANED_CHARACTERS = 24_000  # a private key that begins in the excerpt ends in these
_NATURAL = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_PATH = re.compile(r"(?<![^\s=:(\"'])[~/][^\s,;\"')]+")
_MAGIC = re.compile(r"[*?\[]")
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
_MORE_SIZES = ((1e8, "10M<n<100M"), (1e9, "100M<n<1B"), (1e10, "1B<n<10B"), (1e11, "10B<n<100B"), (1e12, "100B<n<1T"))


@dataclass
class Count:
    """Documents, UTF-8 bytes of their texts."""

    documents: int = 0
    text_bytes: int = 0

    def add(self, text_bytes: int) -> None:
        self.documents += 1
        self.text_bytes += text_bytes


@dataclass
class _Gathered:
    """What one pass over the documents gives."""

    sources: dict[str, Count] = field(default_factory=dict)
    languages: dict[str, Count] = field(default_factory=dict)
    licenses: dict[str, Count] = field(default_factory=dict)
    sites: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[bytes, str, str, str]] = field(default_factory=list)
    unidentified: list[tuple[bytes, str, str, str]] = field(default_factory=list)


def card_of(
    corpus: Artifact,
    *,
    examples: int = 3,
    shown: Callable[[Iterator[Document]], Iterable[Document]] = iter,
) -> dict[str, Any]:
    """The card of a corpus as JSON data. `shown` sees the documents go by, for progress.

    ConfigError for an artifact that is no corpus, DataError for a damaged shard.
    """
    if corpus.kind != "corpus":
        raise ConfigError(f"{corpus.name} is a {corpus.kind}, not a corpus", hint="bloomery runs lists what there is")
    report = _report(corpus)
    names = _Names(corpus.config.get("sources", []))
    found = _gather(corpus, names, max(0, examples), shown)
    metrics, manifest = corpus.metrics, corpus.manifest
    dropped = dict(metrics.get("dropped", {}))
    mixed = report.get("mix") or {}
    kept = sum(metrics["documents"].values())
    distinct = kept - mixed.get("documents", 0) + mixed.get("distinct_documents", 0)
    languages, said_by = _languages(found)
    return {
        "format": FORMAT,
        "name": corpus.name,
        "id": corpus.id,
        "created": _when(manifest.get("created")),
        "made_by": {key: manifest.get("code", {}).get(key, UNKNOWN) for key in ("bloomery", "python", "git")},
        "seconds": manifest.get("seconds"),
        "failed_attempts": manifest.get("failed_attempts", 0),
        "energy_joules": corpus.energy_joules.to_dict(),
        "size_category": size_category(kept),
        "splits": _splits(metrics, found),
        "documents": kept,
        "distinct_documents": distinct,
        "looked_at": distinct + mixed.get("left_out_documents", 0) + sum(dropped.values()),
        "dropped": dropped,
        "duplicates": sum(count for reason, count in dropped.items() if "duplicate" in reason),
        "problems": dict(report.get("problem_counts", {})),
        "sources": _listed(found.sources),
        "sites": {"different": len(found.sites), "documents": dict(found.sites.most_common(_LISTED))},
        "languages": languages,
        "languages_are": said_by,
        "programming_languages": _listed({k: v for k, v in found.languages.items() if _is_programming(k)}),
        "licenses": _listed(found.licenses),
        "personal": {"asked": report.get("personal", {}), "documents_changed": found.personal.total()},
        "mix": names.in_config(mixed),
        "rules": report.get("filter", {}),
        "report": _others(report),
        "examples": [
            {"id": name, "source": source, "text": text}
            for _, name, source, text in sorted(found.examples, reverse=True)
        ],
        "config": names.in_config(dict(corpus.config)),
    }


def _splits(metrics: Mapping[str, Any], found: _Gathered) -> dict[str, Any]:
    sizes = metrics["text_bytes"]
    return {
        split: {"documents": count, "text_bytes": sizes[split], "characters": found.characters[split]}
        for split, count in metrics["documents"].items()
    }


def size_category(documents: int) -> str:
    """Hugging Face's name for how many rows there are."""
    return next((name for limit, name in (*_SIZES, *_MORE_SIZES) if documents < limit), "n>1T")


def _when(seconds: Any) -> str:
    """A time since 1970 as ISO 8601, in UTC."""
    if not isinstance(seconds, (int, float)):
        return UNKNOWN
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _report(corpus: Artifact) -> dict[str, Any]:
    import json

    try:
        return json.loads(corpus.file("report.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{corpus.path}/report.json is damaged: {error}") from error


def _others(report: Mapping[str, Any]) -> dict[str, Any]:
    """What other steps told in report.json, numbers and short texts only: no place in a file, no line of a source."""
    known = ("config", "documents", "text_bytes", "dropped", "problems", "problem_counts", "first_problems")
    known += ("filter", "personal", "mix")

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): kept for key, one in value.items() if (kept := plain(one)) is not None}
        return value if isinstance(value, (int, float)) else None

    return {key: plain(value) for key, value in report.items() if key not in known}


def _gather(
    corpus: Artifact, names: _Names, examples: int, shown: Callable[[Iterator[Document]], Iterable[Document]]
) -> _Gathered:
    found = _Gathered()
    scrubber = Scrubber(PersonalConfig(all="mask"))
    for split in SPLITS:
        for document in shown(read_documents(corpus, split)):
            size = len(document.text.encode())
            known = document.metadata
            found.characters[split] += len(document.text)
            found.sources.setdefault(names.source_of(document.source), Count()).add(size)
            found.licenses.setdefault(_named(known.get("license")), Count()).add(size)
            language = _named(known.get("language"))
            found.languages.setdefault(language, Count()).add(size)
            if site := site_of(known.get("url")):
                found.sites[scrubber.clean(site)] += 1
            found.personal["documents"] += "personal_data" in known
            key = row_key(0, document.id.encode())
            if language == UNKNOWN:
                _keep(found.unidentified, _IDENTIFIED, key, document, document.text[:_CLEANED_CHARACTERS], "")
            if split == "train":
                _keep(found.examples, examples, key, document, "", names.shown(document.source))
    wanted = {name for _, name, _, _ in found.examples}
    texts: dict[str, str] = {}
    for document in read_documents(corpus, "train") if wanted else ():
        if document.id in wanted and document.id not in texts:
            cleaned = scrubber.clean(document.text[:_CLEANED_CHARACTERS])
            texts[document.id] = printable(cleaned[:_EXCERPT], keep="\n\t", instead="\ufffd")
            if len(texts) == len(wanted):
                break
    found.examples = [(key, name, scrubber.clean(source), texts[name]) for key, name, source, _ in found.examples]
    return found


def _keep(
    kept: list[tuple[bytes, str, str, str]], limit: int, key: bytes, document: Document, text: str, source: str
) -> None:
    """Keep those with the largest keys, which look random; a document that stands twice counts once."""
    if limit and (len(kept) < limit or key > kept[0][0]):
        entry = (key, document.id, source, text)
        if any(one[0] == key for one in kept):
            return
        (heapq.heappush if len(kept) < limit else heapq.heappushpop)(kept, entry)


def _named(value: Any) -> str:
    return value if isinstance(value, str) and value else UNKNOWN


def _is_programming(language: str) -> bool:
    return language != UNKNOWN and not _NATURAL.fullmatch(language)


def _languages(found: _Gathered) -> tuple[dict[str, Any], str]:
    """(share of UTF-8 bytes and documents by language, who says so)."""
    said = {k: v for k, v in found.languages.items() if k != UNKNOWN and not _is_programming(k)}
    rows = _listed(said)
    unsaid = found.languages.get(UNKNOWN)
    if unsaid is None:
        return rows, "metadata"
    try:
        identifier = LanguageIdentifier()
    except MissingExtraError:
        return rows, "metadata; of the others unknown: py3langid is not installed"
    tallies = Counter(identifier.identify(text)[0] for _, _, _, text in found.unidentified)
    total = tallies.total()
    for language, count in tallies.most_common():
        row = rows.setdefault(language, {"documents": 0, "text_bytes": 0})
        share = count / total
        row["documents"] += round(share * unsaid.documents)
        row["text_bytes"] += round(share * unsaid.text_bytes)
    whose = "metadata, else " if said else ""
    exact = total >= unsaid.documents
    counted = "identified by py3langid" if exact else f"estimated by py3langid from {total} documents"
    return dict(sorted(rows.items(), key=lambda item: (-item[1]["text_bytes"], item[0]))), whose + counted


def _listed(counts: Mapping[str, Count]) -> dict[str, Any]:
    """The largest by bytes."""
    order = sorted(counts.items(), key=lambda item: (-item[1].text_bytes, item[0]))
    rows = {name: {"documents": one.documents, "text_bytes": one.text_bytes} for name, one in order[:_LISTED]}
    if rest := order[_LISTED:]:
        documents, size = (sum(getattr(one, key) for _, one in rest) for key in ("documents", "text_bytes"))
        rows[f"({len(rest):,} others)"] = {"documents": documents, "text_bytes": size}
    return rows


class _Names:
    """Paths without what lies above the sources: where somebody keeps data is nobody's business."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._bases = {str(source): _base(str(source)) for source in sources}

    def shown(self, path: str) -> str:
        """A path below a source as the source's own name and what is below it; another absolute one as its name."""
        for base in sorted(self._bases.values(), key=len, reverse=True):
            if path == base or path.startswith((f"{base}/", f"{base}:", f"{base}#")):
                return (_last(base) if _private(base) else base) + path[len(base) :]
        return _last(path) if _private(path) else path

    def source_of(self, path: str) -> str:
        """Which of the sources a document's path belongs to, as it is shown."""
        fits = [s for s, base in self._bases.items() if path == base or path.startswith((f"{base}/", f"{base}:"))]
        return self.in_text(max(fits, key=len)) if fits else self.shown(path)

    def in_text(self, source: str) -> str:
        """A source as the user wrote it, without what lies above it."""
        prefix = next((one for one in ("code:", "hf:") if source.startswith(one)), "")
        return prefix + self.shown(source.removeprefix(prefix))

    def in_config(self, value: Any) -> Any:
        """A config with its paths so."""
        if isinstance(value, Mapping):
            return {self.in_config(key): self.in_config(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.in_config(one) for one in value]
        if not isinstance(value, str) or value in self._bases or _private(value):
            return self.in_text(value) if isinstance(value, str) else value
        return _PATH.sub(lambda found: self.in_text(found.group()), value)  # in a sentence


def _base(source: str) -> str:
    """The folder or file of a source: of a glob the part before its first sign."""
    for prefix in ("code:", "hf:"):
        source = source.removeprefix(prefix)
    source = source.partition("#")[0].rstrip("/") or source
    if not _MAGIC.search(source):
        return source
    before = source[: _MAGIC.search(source).start()]  # type: ignore[union-attr]
    return before.rpartition("/")[0] or "."


def _private(path: str) -> bool:
    return path.startswith(("/", "~", "..")) or (len(path) > 2 and path[1:3] in (":\\", ":/"))


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path
