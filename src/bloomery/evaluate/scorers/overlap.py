"""Overlap: BLEU, chrF and ROUGE: how much of a text written by people is in one that was answered.

BLEU (Papineni and others 2002) and chrF (Popović 2015) are sacrebleu's (Post, arXiv 1804.08771), ROUGE (Lin 2004) is
rouge-score's. A sample's value is the sentence's, from 0 to 1; `corpus` is over all of them, on sacrebleu's scale to
100, with its signature: a corpus's BLEU is not the mean of its sentences'. This module does not know languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from bloomery.core.errors import DataError, MissingExtraError
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import MAX_CHARACTERS, nothing, without_target


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """`tokenize` is sacrebleu's: 13a for languages with spaces, zh, ja-mecab and so on (flores101 needs a download)."""

    tokenize: str = "13a"
    ignore_case: bool = False

    @property
    def name(self) -> str:
        return "bleu" if self.tokenize == "13a" else f"bleu ({self.tokenize})"

    def score(self, sample: Sample, answered: Answered) -> Score:
        return _sentence(self.name, _bleu(self.tokenize, self.ignore_case, sentence=True), sample, answered)

    def corpus(self, samples: Sequence[Sample], answers: Sequence[Answered]) -> dict[str, Any]:
        """{"value" to 100, "signature"}; DataError where samples have no targets."""
        return _corpus(_bleu(self.tokenize, self.ignore_case, sentence=False), samples, answers)


@dataclass(frozen=True, kw_only=True)
class ChrF:
    """F2 of characters up to six in a row; `word_order` 2 is chrF++."""

    word_order: int = 0

    @property
    def name(self) -> str:
        return "chrf" + "+" * self.word_order

    def score(self, sample: Sample, answered: Answered) -> Score:
        return _sentence(self.name, _chrf(self.word_order), sample, answered)

    def corpus(self, samples: Sequence[Sample], answers: Sequence[Answered]) -> dict[str, Any]:
        """{"value" to 100, "signature"}; DataError where samples have no targets."""
        return _corpus(_chrf(self.word_order), samples, answers)


@dataclass(frozen=True, kw_only=True)
class Rouge:
    """F-measure of words (rouge1), pairs (rouge2), the longest common subsequence (rougeL, by sentences: rougeLsum)."""

    kind: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    stem: bool = True
    """Words without their endings (Porter), English only."""

    @property
    def name(self) -> str:
        return self.kind if self.stem else f"{self.kind} (words as they are)"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        if not sample.targets:
            return without_target(self.name, sample)
        found = _rouge(self.kind, self.stem).score_multi(list(sample.targets), answered.text[:MAX_CHARACTERS])[
            self.kind
        ]
        details = {"precision": float(found.precision), "recall": float(found.recall)}
        return Score(sample_id=sample.id, scorer=self.name, value=float(found.fmeasure), details=details)


def _sentence(name: str, metric: Any, sample: Sample, answered: Answered) -> Score:
    if (worthless := nothing(name, sample, answered)) is not None:
        return worthless
    if not sample.targets:
        return without_target(name, sample)
    found = metric.sentence_score(answered.text[:MAX_CHARACTERS], list(sample.targets)).score / 100
    return Score(sample_id=sample.id, scorer=name, value=min(1.0, max(0.0, float(found))))


def _corpus(metric: Any, samples: Sequence[Sample], answers: Sequence[Answered]) -> dict[str, Any]:
    if not samples or not all(sample.targets for sample in samples):
        raise DataError("a corpus's score needs samples that have targets")
    said = {one.sample_id: one.text[:MAX_CHARACTERS] for one in answers}
    most = max(len(sample.targets) for sample in samples)
    # sacrebleu takes as many references for each; None stands for one that is not there
    references = [[sample.targets[n] if n < len(sample.targets) else None for sample in samples] for n in range(most)]
    found = metric.corpus_score([said.get(sample.id, "") for sample in samples], references)
    return {"value": float(found.score), "signature": str(metric.get_signature())}


@lru_cache(maxsize=8)
def _bleu(tokenize: str, ignore_case: bool, *, sentence: bool) -> Any:
    sacrebleu = _sacrebleu()
    try:
        return sacrebleu.BLEU(tokenize=tokenize, lowercase=ignore_case, effective_order=sentence)
    except (ImportError, RuntimeError) as error:
        raise DataError(f"sacrebleu cannot cut words with {tokenize!r:.40}: {error}") from None


@lru_cache(maxsize=8)
def _chrf(word_order: int) -> Any:
    return _sacrebleu().CHRF(word_order=word_order)


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingExtraError("sacrebleu", "evaluate", "BLEU and chrF") from None
    return metrics


@lru_cache(maxsize=8)
def _rouge(kind: str, stem: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtraError("rouge-score", "evaluate", "ROUGE") from None
    return RougeScorer([kind], use_stemmer=stem)
