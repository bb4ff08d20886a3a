"""Checks of instructions: beside the published ones, as lm-eval carries them, on texts of all that they look at."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.instructions import CHECKS
from bloomery.evaluate.instructions.checks import count_sentences, language_of

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "keywords:existence": [{"keywords": ["ore", "iron"]}],
    "keywords:frequency": [{"keyword": "ore", "frequency": n, "relation": "at least"} for n in (1, 3)],
    "keywords:forbidden_words": [{"forbidden_words": ["iron", "slag"]}],
    "keywords:letter_frequency": [{"letter": "o", "let_frequency": n, "let_relation": "less than"} for n in (2, 9)],
    "length_constraints:number_paragraphs": [{"num_paragraphs": n} for n in (1, 2, 3)],
    "length_constraints:number_words": [{"num_words": 12, "relation": how} for how in ("at least", "less than")],
    "length_constraints:nth_paragraph_first_word": [
        {"num_paragraphs": n, "nth_paragraph": m, "first_word": "ore"} for n, m in ((1, 1), (2, 1), (2, 2), (3, 2))
    ],
    "detectable_content:number_placeholders": [{"num_placeholders": n} for n in (1, 2)],
    "detectable_content:postscript": [{"postscript_marker": one} for one in ("P.S.", "P.P.S")],
    "detectable_format:number_bullet_lists": [{"num_bullets": n} for n in (1, 2)],
    "detectable_format:constrained_response": [{}],
    "detectable_format:number_highlighted_sections": [{"num_highlights": n} for n in (1, 2, 3)],
    "detectable_format:multiple_sections": [{"section_spliter": "Section", "num_sections": n} for n in (1, 2)],
    "detectable_format:json_format": [{}],
    "detectable_format:title": [{}],
    "combination:two_responses": [{}],
    "combination:repeat_prompt": [{"prompt_to_repeat": "Ore and iron"}],
    "startend:end_checker": [{"end_phrase": "That is all."}],
    "startend:quotation": [{}],
    "punctuation:no_comma": [{}],
}
PIECES = [
    *(
        "ore",
        "Ore",
        "iron",
        "ironing",
        " ",
        " ",
        "\n",
        "\n\n",
        "***",
        "******",
        "*",
        "**hot**",
        "*so*",
        "- ",
        "* ",
        ", ",
    ),
    *("[address]", "P.S. so", "p. p. s", "Section 1", "Section 2", "<<A title>>", "<< >>", '"', "That is all.", "{}"),
    *("My answer is yes.", "```json", "```", "Ore and iron", "'", "? ", "! ", "slag", "[1]", "o o o", "melts", "\t"),
]


@pytest.fixture(scope="module")
def published() -> Any:
    import nltk

    before, nltk.download = nltk.download, lambda *_, **__: True
    try:
        from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
    finally:
        nltk.download = before
    return INSTRUCTION_DICT


def test_every_published_instruction_is_there(published: Any):
    assert set(CHECKS) == set(published)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_as_the_published_check(name: str, published: Any):
    rng, seen = random.Random(name), set()
    texts = [*PIECES, *("".join(rng.choices(PIECES, k=rng.randint(1, 14))) for _ in range(1500))]
    if name == "startend:quotation":
        texts += [f'"{text}"' for text in texts[:100]]
    for settings in SETTINGS[name]:
        theirs = published[name](name)
        theirs.build_description(**settings)
        for text in filter(str.strip, texts):
            found = CHECKS[name](text, settings)
            assert found == theirs.check_following(text), (settings, text)
            seen.add(found)
    assert seen == {True, False}


def test_sentences():
    """Kiss and Strunk's examples of what ends none, and Unicode's plain rules (UAX 29)."""
    texts = {
        "One. Two! Three?": 3,
        "Dr. Smith met Mrs. Jones. They talked.": 2,
        "It costs 3.50 today. Cheap": 2,
        'He said "go." Then he went.': 2,
        "Wait... what?": 2,
        "": 0,
        "no end": 1,
        "これは文です。 次です。": 2,
    }
    assert {text: count_sentences(text) for text in texts} == texts
    check = CHECKS["length_constraints:number_sentences"]
    assert check("One. Two.", {"num_sentences": 2, "relation": "at least"})
    assert not check("One. Two.", {"num_sentences": 2, "relation": "less than"})


def test_languages_and_cases():
    english = "the old furnace was built of clay and stone by the people of the valley"
    german = "der alte ofen wurde von den leuten im tal aus lehm und stein gebaut"
    assert language_of(english) == "en" and language_of(german) == "de" and language_of("123 !") == ""
    assert CHECKS["language:response_language"](german, {"language": "de"})
    assert not CHECKS["language:response_language"](german, {"language": "en"})
    assert CHECKS["change_case:english_lowercase"](english, {})
    assert not CHECKS["change_case:english_lowercase"](english.capitalize(), {})
    assert not CHECKS["change_case:english_lowercase"](german, {})
    assert CHECKS["change_case:english_capital"](english.upper(), {})
    assert not CHECKS["change_case:english_capital"](english, {})
    capitals = CHECKS["change_case:capital_word_frequency"]
    assert capitals("IRON and ORE, well-known X-RAY", {"capital_frequency": 3, "capital_relation": "at least"})
    assert not capitals("IRON and ORE", {"capital_frequency": 3, "capital_relation": "at least"})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("keywords:existence", {}),
        ("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "more than"}),
        ("length_constraints:number_words", {"num_words": "many", "relation": "at least"}),
        ("startend:end_checker", {"end_phrase": 3}),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, Any]):
    with pytest.raises(DataError):
        CHECKS[name]("text", settings)
