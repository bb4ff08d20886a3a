"""Filter: holds documents to a profile's rules on their way into a corpus, and keeps the scores.

Each document goes through alone, so that memory does not grow with the corpus. This module does not know what the rules
measure, nor how a corpus is divided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.corpus.classifier import QualityClassifier
from bloomery.corpus.document import Document
from bloomery.corpus.filter_config import FilterConfig
from bloomery.corpus.judge import Judge, Verdict
from bloomery.corpus.language import LanguageIdentifier
from bloomery.corpus.lists import BadWords, ScoreTable, documents_with_scores, links_with_scores, normal_url
from bloomery.corpus.scores import ScoreWriter

Drop = Callable[[Document, str, str, Mapping[str, Any]], None]


class Filter:
    """`kept(documents, drop)` gives those that pass; `drop(document, reason, detail, more)` is told of the others."""

    def __init__(self, config: FilterConfig, *, folder: Path, scratch: Path, clean: Callable[[str], str] = str) -> None:
        self.config = config
        self._rules = config.applied()
        self._judge = Judge(self._rules)
        self._identifier = LanguageIdentifier() if config.identifies else None
        if self._identifier:
            self._identifier.check(config.languages)
        self._bad_words = BadWords(config.bad_words) if config.bad_words else None
        self._links = links_with_scores(config.links, scratch) if config.links else None
        self._scores: ScoreTable | None = documents_with_scores(config.scores, scratch) if config.scores else None
        self._classifier = QualityClassifier.load(config.classifier) if config.classifier else None
        self._writer = ScoreWriter(folder, self._rules, clean=clean)
        self.dropped: Counter[str] = Counter()
        self._taken: dict[str, list[int]] = {rule.name: [0, 0] for rule in self._rules if rule.drops == "line"}

    def kept(self, documents: Iterable[Document], drop: Drop) -> Iterator[Document]:
        """The documents that pass, with what the rules on lines left of them; blank ones pass unmeasured."""
        for document in documents:
            if not document.text.strip():
                yield document
                continue
            language = self._language(document)
            verdict = self._judge.judge(
                document.text, given=self._given(document, language), bad_words=self._bad(language)
            )
            after = self._after(document, verdict, language)
            url = str(document.metadata.get(self.config.url_field) or "")
            shown = document if verdict.rule else after
            self._writer.write(
                replace(after, id=shown.id), verdict, language=_best(language), original=document, url=url
            )
            if verdict.rule is None:
                for name, (lines, characters) in verdict.taken.items():
                    self._taken[name][0] += lines
                    self._taken[name][1] += characters
                yield after
                continue
            rule = verdict.rule
            self.dropped[rule.name] += 1
            said = f"{verdict.score:.6g}, should be {rule.keep} {rule.threshold:g}"
            drop(document, rule.name, said, {"score": verdict.score, "threshold": rule.threshold})

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
            metadata["paragraph_languages"] = self._identifier.of_paragraphs(verdict.text)
        if verdict.text == document.text:
            return replace(document, metadata=metadata)
        return Document.of(verdict.text, document.source, metadata)

    def report(self) -> dict[str, Any]:
        """What `report.json` says: each rule with its threshold, what it dropped and what it took."""
        rules = []
        for rule in self._rules:
            said: dict[str, Any] = {"rule": rule.name, "keeps": f"{rule.keep} {rule.threshold:g}", "is": rule.source}
            if rule.drops == "document":
                said["documents_dropped"] = self.dropped[rule.name]
            else:
                said["lines_taken"], said["characters_taken"] = self._taken[rule.name]
            rules.append(said)
        return {"profile": self.config.profile, "documents_scored": self._writer.documents, "rules": rules}

    def close(self) -> None:
        """Write the last scores."""
        self._writer.close()
        for table in (self._links, self._scores):
            if table:
                table.close()


def _best(language: Mapping[str, float]) -> tuple[str, float] | None:
    return next(iter(language.items()), None)
