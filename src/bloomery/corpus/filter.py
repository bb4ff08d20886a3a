"""Filter: holds documents to a profile's rules on their way into a corpus, and keeps the scores.

`Filter` judges one record alone, wherever that is done; `FilterTally` keeps the scores of all of them, in their order.
This module does not know what the rules measure, nor how a corpus is divided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.corpus.classifier import QualityClassifier
from bloomery.corpus.document import Document
from bloomery.corpus.filter_config import FilterConfig
from bloomery.corpus.judge import Judge, Verdict
from bloomery.corpus.language import LanguageIdentifier
from bloomery.corpus.lists import BadWords, ScoreTable, documents_with_scores, links_with_scores, normal_url
from bloomery.corpus.record import Record
from bloomery.corpus.scores import PARAGRAPHS, ScoreColumns, ScoreWriter, excerpt_of


class Filter:
    """`judged(record)` is the record with its scores, and taken out if a rule says so."""

    def __init__(self, config: FilterConfig, *, tables: Path, clean: Callable[[str], str] = str) -> None:
        """`tables` is a folder for tables of links and scores, read there if an earlier filter has put them there;
        `clean` takes personal data out of the excerpts."""
        self.config = config
        rules = config.applied()
        self._judge = Judge(rules)
        self._identifier = LanguageIdentifier() if config.identifies else None
        if self._identifier:
            self._identifier.check(config.languages)
        self._bad_words = BadWords(config.bad_words) if config.bad_words else None
        self._links = links_with_scores(config.links, tables) if config.links else None
        self._scores: ScoreTable | None = documents_with_scores(config.scores, tables) if config.scores else None
        self._classifier = QualityClassifier.load(config.classifier) if config.classifier else None
        self._columns = ScoreColumns(rules, paragraphs=config.paragraph_languages)
        self._clean = clean

    def judged(self, record: Record) -> Record:
        """A document with what the rules on lines left of it, or taken out; blank ones pass unmeasured."""
        if record.kind != "document" or not record.text.strip():
            return record
        document = record.document
        language = self._language(document)
        verdict = self._judge.judge(document.text, given=self._given(document, language), bad_words=self._bad(language))
        after = self._after(document, verdict, language)
        url = str(document.metadata.get(self.config.url_field) or "")
        excerpt = excerpt_of(document.text, self._clean)
        best = _best(language)
        record.scores = self._columns.row(after, verdict, language=best, original=document, url=url, excerpt=excerpt)
        record.lines = self._columns.lines(verdict)
        if verdict.rule is None:
            return record.put(after)
        rule, record.scores["id"] = verdict.rule, document.id
        said = f"{verdict.score:.6g}, should be {rule.keep} {rule.threshold:g}"
        return record.take(rule.name, said, {"score": verdict.score, "threshold": rule.threshold})

    def _language(self, document: Document) -> dict[str, float]:
        return self._identifier.probabilities(document.text) if self._identifier else {}

    def _given(self, document: Document, language: Mapping[str, float]) -> dict[str, float]:
        given: dict[str, float] = {}
        if language:
            wanted = self.config.wanted_languages()
            given["language"] = sum(language.get(w, 0.0) for w in wanted) if wanted else max(language.values())
        if self._links:
            url = document.metadata.get(self.config.url_field)
            given["karma"] = (self._links.get(normal_url(str(url))) if url else None) or 0.0
        if self._scores and (score := self._scores.get(document.id)) is not None:
            given["score"] = score
        if self._classifier:
            given["classifier"] = self._classifier.probability(document.text)
        return given

    def _bad(self, language: Mapping[str, float]) -> Any:
        best = _best(language)
        return self._bad_words.pattern(best[0] if best else "en") if self._bad_words else None

    def _after(self, document: Document, verdict: Verdict, language: Mapping[str, float]) -> Document:
        metadata = dict(document.metadata)
        if best := _best(language):
            metadata["language"], metadata["language_probability"] = best[0], round(best[1], 4)
        if self.config.paragraph_languages and self._identifier:
            metadata[PARAGRAPHS] = self._identifier.of_paragraphs(verdict.text)
        if verdict.text == document.text:
            return replace(document, metadata=metadata)
        return Document.of(verdict.text, document.source, metadata)


class FilterTally:
    """Keeps what a filter found of each record, in the order of the corpus, and counts it. Close it at the end."""

    def __init__(self, config: FilterConfig, folder: Path) -> None:
        self.config = config
        self._rules = config.applied()
        self._writer = ScoreWriter(folder, self._rules, paragraphs=config.paragraph_languages)
        self._dropped: Counter[str] = Counter()
        self._taken: dict[str, list[int]] = {rule.name: [0, 0] for rule in self._rules if rule.drops == "line"}

    def add(self, record: Record) -> None:
        """A record that a filter has judged, or one that it did not measure."""
        scores = record.scores
        if scores is None:
            return
        self._writer.add(scores, record.lines)
        if scores["rule"]:
            self._dropped[scores["rule"]] += 1
            return
        for name, taken in self._taken.items():
            taken[0] += scores[f"{name}.lines"]
            taken[1] += scores[f"{name}.characters"]

    def report(self) -> dict[str, Any]:
        """What `report.json` says: each rule with its threshold, what it dropped and what it took."""
        rules = []
        for rule in self._rules:
            said: dict[str, Any] = {"rule": rule.name, "keeps": f"{rule.keep} {rule.threshold:g}", "is": rule.source}
            if rule.drops == "document":
                said["documents_dropped"] = self._dropped[rule.name]
            else:
                said["lines_taken"], said["characters_taken"] = self._taken[rule.name]
            rules.append(said)
        return {"profile": self.config.profile, "documents_scored": self._writer.documents, "rules": rules}

    def close(self) -> None:
        """Write the last scores."""
        self._writer.close()


def _best(language: Mapping[str, float]) -> tuple[str, float] | None:
    return next(iter(language.items()), None)
