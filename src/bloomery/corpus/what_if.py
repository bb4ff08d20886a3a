"""What if: which documents a corpus would hold at other thresholds, from the scores kept beside it.

No text is read: documents and lines were measured once, and a threshold only compares. What a corpus would be is told
before duplicates and held-out overlaps are taken out. This module does not know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.artifact import Artifact
from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.corpus.filter_config import FilterConfig
from bloomery.corpus.rule import Rule, with_thresholds
from bloomery.corpus.scores import PARAGRAPH_CHARACTERS, PARAGRAPHS, read_scores, require_scores

BYTES_PER_TOKEN = 4.0  # of English text by most vocabularies: an estimate where no tokenizer is given
_LISTED = 20
_SAMPLES = 3


@dataclass
class Tally:
    """Documents, UTF-8 bytes of their texts and estimated tokens that are kept."""

    documents: int = 0
    text_bytes: int = 0
    tokens: float = 0.0

    def add(self, text_bytes: NDArray[Any], tokens: NDArray[Any]) -> None:
        self.documents += len(text_bytes)
        self.text_bytes += int(text_bytes.sum())
        self.tokens += float(tokens.sum())


@dataclass
class ParagraphTally:
    """Documents with paragraphs in a language, and the characters of these."""

    documents: int = 0
    characters: int = 0


@dataclass
class RuleTally:
    """What one rule does now and would do then: documents that it is the first to drop, that it drops if asked alone,
    and that it alone drops; of a rule on lines the lines that it takes."""

    rule: str
    now: str
    then: str
    first: list[int] = field(default_factory=lambda: [0, 0])
    any: list[int] = field(default_factory=lambda: [0, 0])
    only: list[int] = field(default_factory=lambda: [0, 0])
    lines: list[int] = field(default_factory=lambda: [0, 0])
    samples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class WhatIf:
    """The answer: totals, and by language, site and rule, now and then.

    `paragraph_languages` is empty where they were not asked for; they are those of the texts as they are now."""

    corpus: str
    profile: str
    moved: dict[str, Any]
    documents: int = 0
    now: Tally = field(default_factory=Tally)
    then: Tally = field(default_factory=Tally)
    languages: dict[str, list[Tally]] = field(default_factory=dict)
    paragraph_languages: dict[str, list[ParagraphTally]] = field(default_factory=dict)
    sites: dict[str, list[Tally]] = field(default_factory=dict)
    rules: list[RuleTally] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["sites"] = dict(list(data["sites"].items())[:_LISTED])
        return {**data, "tokens_are": "estimated"}


def what_if(
    corpus: Artifact, moved: Mapping[str, Any], *, bytes_per_token: Mapping[str, float] | None = None
) -> WhatIf:
    """What the corpus would keep with these thresholds (or "off") by rule.

    `bytes_per_token` by language, "" for all others. ConfigError for a corpus without scores, for a rule that its
    profile does not have, and for a moved rule on lines after which texts were measured: those must be read again.
    """
    require_scores(corpus)
    config = from_dict(FilterConfig, corpus.config.get("filter", {}), where="filter")
    before = config.applied()
    after = with_thresholds(before, moved, profile=config.profile)
    _check(before, after)
    pairs = [(rule, next((r for r in after if r.name == rule.name), None)) for rule in before]
    answer = WhatIf(corpus.name, config.profile, dict(moved))
    answer.rules = [
        RuleTally(rule.name, f"{rule.keep} {rule.threshold:g}", f"{r.keep} {r.threshold:g}" if r else "off")
        for rule, r in pairs
    ]
    ratio = {"": BYTES_PER_TOKEN, **(bytes_per_token or {})}
    for documents, lines in read_scores(corpus):
        _count(answer, pairs, _Group(documents, lines), ratio)
    order = sorted(answer.sites.items(), key=lambda item: (-item[1][0].documents - item[1][1].documents, item[0]))
    answer.sites = dict(order)
    order = sorted(answer.languages.items(), key=lambda item: (-item[1][0].documents - item[1][1].documents, item[0]))
    answer.languages = dict(order)
    by_size = answer.paragraph_languages.items()
    in_order = sorted(by_size, key=lambda item: (-item[1][0].characters - item[1][1].characters, item[0]))
    answer.paragraph_languages = dict(in_order)
    return answer


def _check(before: Sequence[Rule], after: Sequence[Rule]) -> None:
    moved = [r.name for r in before if r.drops == "line" and r not in after]
    if not moved:
        return
    place = next(i for i, r in enumerate(before) if r.name == moved[0])
    later = [r.name for r in before[place:] if r.drops == "document" and r.reads == "text" and r in after]
    if later:
        raise ConfigError(
            f'"{moved[0]}" takes lines, and {later[0]} measured what it left', hint="curate again with that threshold"
        )


class _Group:
    """A row group of documents and its lines, as arrays."""

    def __init__(self, documents: Any, lines: Any) -> None:
        self.table, self.lines = documents, lines
        self.size = documents.num_rows
        if lines is not None:
            owner = self._array(lines, "document")
            self.starts = np.flatnonzero(np.diff(owner, prepend=-1))
            self.documents = owner - owner[0]

    @staticmethod
    def _array(table: Any, name: str) -> NDArray[Any]:
        return table.column(name).combine_chunks().to_numpy(zero_copy_only=False)

    def column(self, name: str) -> NDArray[Any]:
        return self._array(self.table, name)

    def fails(self, rules: Sequence[Rule | None], *, kept: bool) -> tuple[NDArray[np.bool_], list[int], NDArray[Any]]:
        """((documents, rules) whether each rule drops each document, lines taken by each rule, bytes left).

        `kept` says that the scores are those of these very thresholds; else rules on lines are asked again.
        """
        fails = np.zeros((self.size, len(rules)), bool)
        taken = [0] * len(rules)
        text_bytes = self.column("text_bytes")
        alive = None if self.lines is None else np.ones(self.lines.num_rows, bool)
        for place, rule in enumerate(rules):
            if rule is None:
                continue
            if rule.drops == "document" and (kept or rule.reads != "lines" or alive is None):
                fails[:, place] = ~rule.keeps(self.column(rule.name))
            elif alive is not None:
                values = self._array(self.lines, rule.name)
                if rule.drops == "line":
                    dropped = alive & ~rule.keeps(values)
                    taken[place] = int(dropped.sum())
                    alive &= ~dropped
                elif (values >= 0).all():  # -1: it was not measured
                    fails[:, place] = ~rule.keeps(np.bincount(self.documents[alive], values[alive], self.size))
        if not kept and alive is not None:
            characters = self._array(self.lines, "characters")
            left = np.bincount(self.documents[alive], characters[alive] + 1, self.size)
            # Of a text whose lines are others now, only the share of its characters is known: bytes in proportion.
            had = self.column("characters")
            text_bytes = np.round(np.where(had > 0, text_bytes / np.maximum(1, had), 1.0) * np.maximum(0, left - 1))
        return fails, taken, text_bytes


def _count(answer: WhatIf, pairs: list[tuple[Rule, Rule | None]], group: _Group, ratio: Mapping[str, float]) -> None:
    before, after = [now for now, _ in pairs], [then for _, then in pairs]
    lines_moved = any(now.drops == "line" and now != then for now, then in pairs)
    sides = [group.fails(before, kept=True), group.fails(after, kept=not lines_moved)]
    languages, sites = group.column("language"), group.column("site")
    per_token = np.array([ratio.get(language, ratio[""]) for language in languages])
    answer.documents += group.size
    for side, ((fails, taken, text_bytes), tally) in enumerate(zip(sides, (answer.now, answer.then), strict=True)):
        keeps = ~fails.any(axis=1)
        tokens = text_bytes / per_token
        tally.add(text_bytes[keeps], tokens[keeps])
        for names, tallies in ((languages, answer.languages), (sites, answer.sites)):
            for name in np.unique(names.astype(str)):
                inside = keeps & (names == name)
                tallies.setdefault(str(name), [Tally(), Tally()])[side].add(text_bytes[inside], tokens[inside])
        _count_paragraphs(answer, group, np.atleast_1d(keeps), side)
        if not pairs:
            continue
        first, only = fails.argmax(axis=1), fails.sum(axis=1) == 1
        for place, rule in enumerate(answer.rules):
            rule.first[side] += int(((first == place) & ~keeps).sum())
            rule.any[side] += int(fails[:, place].sum())
            rule.only[side] += int((fails[:, place] & only).sum())
            rule.lines[side] += taken[place]
    _sample(answer, pairs, group, sides[0][0], sides[1][0])


def _count_paragraphs(answer: WhatIf, group: _Group, keeps: NDArray[np.bool_], side: int) -> None:
    if PARAGRAPHS not in group.table.column_names:
        return
    languages, sizes = (group.table.column(name).to_pylist() for name in (PARAGRAPHS, PARAGRAPH_CHARACTERS))
    for row in range(group.size):
        for language, size in zip(languages[row], sizes[row], strict=True):
            tallies = answer.paragraph_languages.setdefault(language, [ParagraphTally(), ParagraphTally()])
            if keeps[row]:
                tallies[side].documents += 1
                tallies[side].characters += size


def _sample(
    answer: WhatIf,
    pairs: list[tuple[Rule, Rule | None]],
    group: _Group,
    fails_now: NDArray[np.bool_],
    fails_then: NDArray[np.bool_],
) -> None:
    """Documents whose fate changes, under the rule that decides it; of a rule that does not change, those it drops."""
    gone, come = np.any(fails_now, axis=1), np.any(fails_then, axis=1)
    for place, ((rule, then), tally) in enumerate(zip(pairs, answer.rules, strict=True)):
        if rule.drops != "document" or len(tally.samples) >= _SAMPLES:
            continue
        moved = rule != then
        changed = (fails_now[:, place] != fails_then[:, place]) & (gone != come)
        chosen = np.flatnonzero(changed if moved else fails_now[:, place] & gone & (fails_now.argmax(axis=1) == place))
        for row in chosen[: _SAMPLES - len(tally.samples)].tolist():
            told = group.table.slice(row, 1).select(["id", "source", "site", "language", "excerpt"]).to_pylist()[0]
            fate = "dropped" if not moved else "kept then" if gone[row] else "dropped then"
            tally.samples.append({"fate": fate, "score": _number(group.column(rule.name)[row]), **told})


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
