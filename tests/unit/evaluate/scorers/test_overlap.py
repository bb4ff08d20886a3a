"""Overlap: sacrebleu's and rouge-score's figures through our samples; several references; settings."""

from __future__ import annotations

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Bleu, ChrF, Rouge

SAID = ["The dog bit the man.", "It was not surprising.", "The man had just bitten him."]
WANTED = [
    ("The dog bit the man.", "The dog had bit the man."),
    ("It was not unexpected.", "No one was surprised."),
    ("The man bit him first.",),
]
SAMPLES = [Sample(id=str(n), input="?", targets=one) for n, one in enumerate(WANTED)]
ANSWERS = [Answered(sample_id=str(n), text=one) for n, one in enumerate(SAID)]


def test_corpus_is_sacrebleus():
    references = [[one[0] for one in WANTED], [one[1] if len(one) > 1 else None for one in WANTED]]
    found = Bleu().corpus(SAMPLES, list(reversed(ANSWERS)))
    assert found["value"] == pytest.approx(sacrebleu.corpus_bleu(SAID, references).score, abs=1e-12)  # type: ignore
    assert "tok:13a" in found["signature"]
    assert ChrF().corpus(SAMPLES, ANSWERS)["value"] == pytest.approx(
        sacrebleu.corpus_chrf(SAID, references).score,  # type: ignore[arg-type]
        abs=1e-12,
    )


def test_as_printed():
    """sacrebleu's own page: the three sentences with two references each have a BLEU of 48.53."""
    said = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    firsts = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
    seconds = ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]
    samples = [Sample(id=str(n), input="?", targets=pair) for n, pair in enumerate(zip(firsts, seconds, strict=True))]
    answers = [Answered(sample_id=str(n), text=one) for n, one in enumerate(said)]
    assert Bleu().corpus(samples, answers)["value"] == pytest.approx(48.53, abs=5e-3)


def test_sentences():
    for sample, answer in zip(SAMPLES, ANSWERS, strict=True):
        references = list(sample.targets)
        assert Bleu().score(sample, answer).value == pytest.approx(
            sacrebleu.sentence_bleu(answer.text, references).score / 100, abs=1e-12
        )
        plus = sacrebleu.sentence_chrf(answer.text, references, word_order=2).score / 100
        assert ChrF(word_order=2).score(sample, answer).value == pytest.approx(plus, abs=1e-12)
        best = max(
            RougeScorer(["rougeL"], use_stemmer=True).score(one, answer.text)["rougeL"].fmeasure for one in references
        )
        assert Rouge().score(sample, answer).value == pytest.approx(best, abs=1e-12)
    assert [Bleu().name, ChrF(word_order=2).name, Rouge(kind="rouge1", stem=False).name] == [
        *("bleu", "chrf++", "rouge1 (words as they are)")
    ]


def test_what_has_no_target():
    with pytest.raises(DataError):
        Bleu().corpus([Sample(id="s", input="?")], [])
    assert Bleu().corpus(SAMPLES, [])["value"] == 0
