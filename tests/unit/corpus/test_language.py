"""Language: py3langid's own answers on truncated input, and paragraphs."""

from __future__ import annotations

import lzma
from itertools import islice
from pathlib import Path

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


def test_paragraphs_are_what_blank_lines_part(identifier: LanguageIdentifier):
    """Whatever ends a line, and whatever white space the blank ones hold; a wrapped paragraph is one."""
    wrapped = GERMAN.replace(", und", ",\nund")
    for blank in ("\n\n", "\n \t\n", "\r\n\r\n", "\n\n\n"):
        found = identifier.of_paragraphs(blank.join([ENGLISH, wrapped, ENGLISH]))
        assert [(language, size) for language, _, size in found] == [
            ("en", len(ENGLISH)),
            ("de", len(wrapped)),
            ("en", len(ENGLISH)),
        ]


def test_a_short_paragraph_of_a_script_without_spaces_says_enough(identifier: LanguageIdentifier):
    found = identifier.of_paragraphs("今天天气很好我们去公园\n\nno one knows\n\n天气很好\n\nวันนี้อากาศดีมาก")
    assert [(language, size) for language, _, size in found] == [("zh", 11), ("th", 16)]


def test_paragraphs_of_published_translations(identifier: LanguageIdentifier, shared_data: Path):
    """Three requests of MASSIVE a paragraph, in languages that no neighbour is close to."""
    languages = ("de", "ja", "th", "hi", "my", "fr", "el")
    texts = []
    for language in languages:
        with lzma.open(shared_data / "massive" / f"{language}.tsv.xz", "rt", encoding="utf-8") as lines:
            rows = [line.rstrip("\n").split("\t")[3] for line in islice(lines, 1, 13)]
        texts += [" ".join(rows[place : place + 3]) for place in range(0, 12, 3)]
    found = identifier.of_paragraphs("\n\n".join(texts))
    assert [language for language, _, _ in found] == list(languages)
    assert sum(size for _, _, size in found) == sum(map(len, texts))


def test_an_unknown_language(identifier: LanguageIdentifier):
    with pytest.raises(ConfigError, match="xx"):
        identifier.check(["en", "xx"])
