"""Language: py3langid's own answers on truncated input, and paragraphs."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus.language import CHARACTERS, LanguageIdentifier

ENGLISH = "The weather was fine, and everybody went to the river after the long meeting."
GERMAN = "Das Wetter war schön, und alle gingen nach der langen Sitzung gemeinsam an den Fluss."


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    pytest.importorskip("py3langid")
    return LanguageIdentifier()


def test_it_is_py3langids_answer(identifier: LanguageIdentifier):
    from py3langid.langid import MODEL_FILE
    from py3langid.langid import LanguageIdentifier as Theirs

    theirs = Theirs.from_model_file(MODEL_FILE, norm_probs=True)
    for text in (ENGLISH, GERMAN):
        assert identifier.identify(text) == pytest.approx(theirs.classify(text))
    probabilities = identifier.probabilities(GERMAN)
    assert next(iter(probabilities)) == "de" and sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)


def test_only_the_beginning_counts(identifier: LanguageIdentifier):
    long = (ENGLISH + " ") * (CHARACTERS // len(ENGLISH) + 1)
    assert identifier.identify(long + GERMAN * 100) == identifier.identify(long)


def test_paragraphs_in_one_language_are_one_entry(identifier: LanguageIdentifier):
    found = identifier.of_paragraphs(f"{ENGLISH}\n\n{ENGLISH}\n\nshort\n\n{GERMAN}")
    assert [(language, size) for language, _, size in found] == [("en", 2 * len(ENGLISH)), ("de", len(GERMAN))]


def test_an_unknown_language(identifier: LanguageIdentifier):
    with pytest.raises(ConfigError, match="xx"):
        identifier.check(["en", "xx"])
