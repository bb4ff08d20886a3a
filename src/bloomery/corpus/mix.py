"""Mix: the training documents in the proportions, repetitions and order that were asked for.

    documents -> what there is of each source, language and site -> how often each part stands -> copies, shuffled

Two passes over documents that lie on disk; memory grows with neither. Which documents of a part are repeated once more,
or left out, goes by a hash of their text and the seed: a larger share only adds documents, and nothing depends on the
number of processes. This module does not know how shares are found, nor how a shuffle is done.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import DataError
from bloomery.corpus.document import Document
from bloomery.corpus.language import LanguageIdentifier
from bloomery.corpus.mix_config import OTHERS, MixConfig, source_key
from bloomery.corpus.mix_shares import Asked, Plan, plan_mix, tempered
from bloomery.corpus.scores import site_of
from bloomery.corpus.shards import SplitWriter, read_folder
from bloomery.corpus.shuffle import row_key, shuffled

_BINS = 1024  # of the hash, by which a part of a part is cut off
_WHOLE = 1e-9
_NO_LANGUAGE = "unknown"


@dataclass
class _Part:
    """The documents of one source, language and site."""

    source: str
    language: str
    domain: str
    number: int
    documents: int = 0
    size: float = 0.0
    bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    written: float = 0.0
    copies: int = 0
    used: int = 0


class Mix:
    """`write(writer)` mixes the documents of the training shards in `folder`; `report` says what came of it."""

    def __init__(
        self, config: MixConfig, folder: Path, scratch: Path, *, shown: Callable[[Iterator[Document]], Any] = iter
    ) -> None:
        self.config, self.folder, self.scratch, self._shown = config, folder, scratch, shown
        self.report: dict[str, Any] = {}
        self.notes: list[str] = []
        self._parts: dict[tuple[str, str, str], _Part] = {}
        self._numbers = scratch / "parts.bin"
        self._identifier: LanguageIdentifier | None = None

    def write(self, writer: SplitWriter) -> None:
        """DataError if a source has no weight, or nothing at all would be left."""
        self._count()
        parts = list(self._parts.values())
        plan = self._plan(parts)
        rows = self._copies(parts, plan)
        if self.config.shuffles:
            size = int(sum(part.size for part in parts)) if self.config.unit == "bytes" else self._bytes
            size = int(size * max(1.0, plan.size / max(1.0, sum(part.size for part in parts))))
            buckets = self.scratch / "buckets"
            buckets.mkdir()
            lines = shuffled(rows, buckets, size=size, bucket_bytes=self.config.bucket_bytes)
        else:
            lines = (content for _, content in rows)
        for line in lines:
            row = json.loads(line)
            writer.write(Document(row["id"], row["text"], row["source"], row["metadata"]))
        if not writer.documents:
            raise DataError("the mix leaves no training document", hint="raise mix.size, or a weight")
        self._tell(parts, plan)

    def _count(self) -> None:
        """What there is of each part; which part each document belongs to is kept on disk."""
        self._bytes = 0
        with self._numbers.open("wb") as stream:
            for document in self._shown(read_folder(self.folder, "train")):
                part = self._part_of(document)
                text_bytes = len(document.text.encode())
                size = text_bytes if self.config.unit == "bytes" else 1
                self._bytes += text_bytes
                part.documents += 1
                part.size += size
                part.bins[int(self._place(document) * _BINS)] += size
                array("I", [part.number]).tofile(stream)

    def _part_of(self, document: Document) -> _Part:
        config = self.config
        # Sources are told apart by the weights, and by the limits where they have some of their own.
        weight = source_key(config.weights, document.source) if config.weights else ""
        if weight is None:
            hint = '"*" = 1 is the weight of all others'
            raise DataError(f'"mix.weights" gives {document.source} none', hint=hint)
        limit = (source_key(config.epochs, document.source) or "") if config.epochs else ""
        key = (f"{weight}\0{limit}", self._language(document), self._domain(document))
        if key not in self._parts:
            self._parts[key] = _Part(*key, number=len(self._parts))
        return self._parts[key]

    def _language(self, document: Document) -> str:
        if not self.config.temperature:
            return ""
        said = document.metadata.get(self.config.language_field)
        if isinstance(said, str) and said:
            return said
        self._identifier = self._identifier or LanguageIdentifier()
        return self._identifier.identify(document.text)[0]

    def _domain(self, document: Document) -> str:
        if not self.config.domains:
            return ""
        said = document.metadata.get(self.config.domain_field)
        site = (site_of(said) or str(said)).lower() if said else ""
        fits = (name for name in self.config.domains if site == name.lower() or site.endswith(f".{name.lower()}"))
        return next(fits, OTHERS)

    def _place(self, document: Document) -> float:
        """From 0 to below 1, by the document's text."""
        digest = row_key(self.config.seed ^ (1 << 63), document.id.encode())
        return int.from_bytes(digest[:6], "big") / (1 << 48)

    def _plan(self, parts: list[_Part]) -> Plan:
        sizes = np.array([part.size for part in parts])
        limits = np.array([self._limit(part) for part in parts])
        self._asked = {name: one for name, one in self._wanted(parts, sizes).items() if one[1]}
        asked = [Asked(groups, np.array(list(shares.values()))) for groups, shares in self._asked.values()]
        plan = plan_mix(sizes, asked, limits=limits, size=float(self.config.size))
        wanted = self.config.size or sizes.sum()
        if plan.size < wanted * (1 - 1e-6):
            said = f"{plan.size:,.0f} {self.config.unit} of {wanted:,.0f}"
            self.notes.append(f"the mix has {said}: nothing may stand more often (mix.max_epochs, mix.epochs)")
        if not plan.fits:
            self.notes.append("the mix cannot have all shares that were asked for: report.json says which it has")
        return plan

    def _limit(self, part: _Part) -> float:
        own = self.config.epochs.get(part.source.split("\0")[1])
        return float(self.config.max_epochs if own is None else own)

    def _wanted(self, parts: list[_Part], sizes: NDArray[np.float64]) -> dict[str, tuple[Any, dict[str, float]]]:
        """By kind: the group of each part, and the share asked for each group; no groups where nothing is asked."""
        config = self.config

        def groups(names: list[str]) -> tuple[NDArray[np.int64], list[str]]:
            order = sorted(set(names))
            return np.array([order.index(name) for name in names], np.int64), order

        of_sources, sources = groups([part.source.split("\0")[0] for part in parts])
        of_languages, languages = groups([part.language for part in parts])
        of_domains, domains = groups([part.domain for part in parts])
        found: dict[str, tuple[Any, dict[str, float]]] = {
            name: (of, {})
            for name, of in (("sources", of_sources), ("languages", of_languages), ("domains", of_domains))
        }
        if config.weights:
            total = sum(config.weights[name] for name in sources)
            found["sources"][1].update({name: config.weights[name] / total if total else 0.0 for name in sources})
            self._missing("weights", config.weights, sources)
        if config.temperature:
            shares = tempered(np.bincount(of_languages, sizes).astype(np.float64), config.temperature)
            found["languages"][1].update(dict(zip(languages, shares.tolist(), strict=True)))
        if config.domains:
            named = {name: float(config.domains[name]) for name in domains if name != OTHERS}
            rest = 1.0 - sum(named.values())
            found["domains"][1].update({name: named.get(name, rest) for name in domains})
            self._missing("domains", config.domains, domains)
        return found

    def _missing(self, table: str, asked: Mapping[str, Any], there: list[str]) -> None:
        gone = [name for name in asked if name not in there and asked[name]]
        if gone:
            self.notes.append(f"mix.{table}: no training document is of {', '.join(gone[:5])}")

    def _copies(self, parts: list[_Part], plan: Plan) -> Iterator[tuple[bytes, bytes]]:
        """(key, line) of every copy, in the order in which the documents lie."""
        whole = np.floor(plan.epochs + _WHOLE).astype(np.int64)
        cuts = [_cut(part.bins, epochs - full) for part, epochs, full in zip(parts, plan.epochs, whole, strict=True)]
        with self._numbers.open("rb") as stream:
            for document in self._shown(read_folder(self.folder, "train")):
                number = array("I")
                number.fromfile(stream, 1)
                part = parts[number[0]]
                copies = int(whole[part.number]) + int(self._place(document) < cuts[part.number])
                if not copies:
                    continue
                text_bytes = len(document.text.encode())
                part.used += 1
                part.copies += copies
                part.written += copies * (text_bytes if self.config.unit == "bytes" else 1)
                row = {"id": document.id, "text": document.text, "source": document.source}
                line = json.dumps({**row, "metadata": document.metadata}, ensure_ascii=False).encode()
                for copy in range(copies):
                    yield row_key(self.config.seed, f"{document.id} {copy}".encode()), line

    def _tell(self, parts: list[_Part], plan: Plan) -> None:
        config = self.config
        written, there = sum(part.written for part in parts), sum(part.size for part in parts)
        self.report = {
            "unit": config.unit,
            "unit_is": "UTF-8 bytes of text" if config.unit == "bytes" else "documents",
            "there": round(there),
            "size": round(written),
            "shuffled": config.shuffles,
            "seed": config.seed,
            "documents": sum(part.copies for part in parts),
            "distinct_documents": sum(part.used for part in parts),
            "left_out_documents": sum(part.documents - part.used for part in parts),
            "all_shares_met": plan.fits,
            "notes": list(self.notes),
        }
        for kind, (groups, shares) in self._asked.items():
            rows = {}
            for place, (name, share) in enumerate(shares.items()):
                inside = [part for part, group in zip(parts, groups, strict=True) if group == place]
                has, is_now = sum(part.size for part in inside), sum(part.written for part in inside)
                rows[name or _NO_LANGUAGE] = {
                    "asked": share,
                    "there": has / there,
                    "got": is_now / written if written else 0.0,
                    "epochs": is_now / has if has else 0.0,
                    "documents": sum(part.copies for part in inside),
                    config.unit: round(is_now),
                }
            self.report[kind] = rows


def _cut(bins: NDArray[np.float64], share: float) -> float:
    """Where to cut the places of documents so that this share of their sizes lies before; sizes are given by bin."""
    if share <= _WHOLE:
        return 0.0
    sums = np.cumsum(bins)
    wanted = share * sums[-1]
    bin_ = int(np.searchsorted(sums, wanted))
    before = sums[bin_ - 1] if bin_ else 0.0
    return (bin_ + (wanted - before) / bins[bin_]) / _BINS
