"""Profiles: verdicts, reasons and texts equal to datatrove's on real pages, and scores to its formulas."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus.judge import Judge
from bloomery.corpus.profiles import PROFILES, rules_of

PEER = Path(__file__).resolve().parents[3] / "benchmarks" / "peer_datatrove.py"


@pytest.fixture(scope="module")
def peer(shared_data: Path) -> ModuleType:
    pytest.importorskip("datatrove")
    pytest.importorskip("spacy")
    spec = importlib.util.spec_from_file_location("peer_datatrove", PEER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DATA = shared_data
    return module


@pytest.mark.parametrize("profile", ["gopher", "fineweb", "mc4"])
def test_verdicts_reasons_and_texts_are_datatroves(peer: ModuleType, profile: str):
    texts = [*peer.texts("C4")[::5], *peer.texts("web")[::5]]
    judge, theirs = Judge(peer.rules_of(profile)), peer.judge(profile)
    for text in texts:
        verdict = judge.judge(text)
        ours = (verdict.rule.name, "") if verdict.rule else ("", verdict.text)
        assert ours == theirs(text)


def test_c4_is_datatroves_with_the_end_marks_of_c4s_code(peer: ModuleType, monkeypatch: pytest.MonkeyPatch):
    from datatrove.pipeline.filters import c4_filters

    monkeypatch.setattr(c4_filters, "END_PUNCTUATION", (".", "?", "!", '"'))
    texts = [*peer.texts("C4")[::5], *peer.texts("web")[::5]]
    for profile in ("c4-tfds", "c4-paper"):
        judge, theirs = Judge(peer.rules_of(profile)), peer.judge(profile)
        for text in texts:
            verdict = judge.judge(text)
            assert (verdict.rule.name, "") if verdict.rule else ("", verdict.text) == theirs(text)


def test_scores_are_datatroves_formulas(peer: ModuleType):
    """The formulas of datatrove's filters, on its own words: equal to 1e-9, for they are one division of integers."""
    from datatrove.pipeline.filters.gopher_repetition_filter import (
        find_all_duplicate,
        find_duplicates,
        find_top_duplicate,
        get_n_grams,
    )

    from bloomery.corpus.words import SYMBOLS, split_words

    judge = Judge(rules_of("gopher"))
    for text in peer.texts("web")[::25]:
        words, size = split_words(text), len(text)
        plain = [len(word) for word in words if any(c not in SYMBOLS for c in word)]
        scores = judge.judge(text).scores
        expected = {f"gopher_top_{n}_words": find_top_duplicate(get_n_grams(words, n)) / size for n in (2, 3, 4)}
        expected |= {f"gopher_repeated_{n}_words": find_all_duplicate(words, n) / size for n in range(5, 11)}
        lines = [line for line in text.split("\n") if line]
        expected |= {
            "gopher_min_words": len(plain),
            "gopher_max_word_characters": float(np.mean(plain)),
            "gopher_hashes": text.count("#") / len(words),
            "gopher_words_with_letters": sum(any(map(str.isalpha, word)) for word in words) / len(words),
            "gopher_repeated_line_characters": find_duplicates(lines)[1] / size,
        }
        for name, value in expected.items():
            assert scores[name] == pytest.approx(value, abs=1e-9), name


def test_an_unknown_profile_has_a_hint():
    with pytest.raises(ConfigError) as caught:
        rules_of("finweb")
    assert "fineweb" in caught.value.hint


def test_names_are_unique_and_rules_have_sources():
    for rules in PROFILES.values():
        assert len({rule.name for rule in rules}) == len(rules)
        assert all(rule.source.endswith(").") for rule in rules)
