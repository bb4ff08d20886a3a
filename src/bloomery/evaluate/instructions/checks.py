"""Checks: IFEval's verifiable instructions (Zhou et al., arXiv 2311.07911), each as a function of text and settings.

Where an instruction says less than a program needs, the published checker's reading is taken: comments say where. Three
differ by what they count with: sentences end as Unicode says for plain text here, not as a trained model does; words in
capitals are told apart by white space and punctuation; languages are told by this package's own identifier.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from bloomery.core.errors import DataError
from bloomery.corpus.language import LanguageIdentifier

Check = Callable[[str, Mapping[str, Any]], bool]
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]+[\"'\u201d\u2019)\]]*(?=\s|$)")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|e\.g|i\.e|[A-Z]|[A-Z](?:\.[A-Z])+)\.$")
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+(?:[-'\u2019]\w+)*")


def _compared(count: int, settings: Mapping[str, Any], threshold: str, relation: str = "relation") -> bool:
    """Less than a number, or at least as many."""
    wanted, how = _number(settings, threshold), settings.get(relation)
    if how not in ("less than", "at least"):
        raise DataError(f"an instruction compares by {how!r:.40}", hint='"less than" or "at least"')
    return count < wanted if how == "less than" else count >= wanted


def _number(settings: Mapping[str, Any], name: str) -> int:
    value = settings.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables of a data frame
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"an instruction's {name} is {value!r:.40}, not a whole number")
    return value


def _text(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    if not isinstance(value, str):
        raise DataError(f"an instruction's {name} is {value!r:.40}, not a text")
    return value


def _texts(settings: Mapping[str, Any], name: str) -> list[str]:
    value = settings.get(name)
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise DataError(f"an instruction's {name} is {value!r:.40}, not a list of texts")
    return list(value)


def _found(word: str, text: str, *, whole: bool = False) -> list[str]:
    """Where a keyword stands, whatever its case. Keywords are texts, not patterns."""
    pattern = re.escape(word)
    return re.findall(rf"\b{pattern}\b" if whole else pattern, text, re.IGNORECASE)


def keywords_exist(text: str, settings: Mapping[str, Any]) -> bool:
    return all(_found(word, text) for word in _texts(settings, "keywords"))


def keyword_frequency(text: str, settings: Mapping[str, Any]) -> bool:
    return _compared(len(_found(_text(settings, "keyword").strip(), text)), settings, "frequency")


def no_forbidden_words(text: str, settings: Mapping[str, Any]) -> bool:
    return not any(_found(word, text, whole=True) for word in _texts(settings, "forbidden_words"))


def letter_frequency(text: str, settings: Mapping[str, Any]) -> bool:
    letter = _text(settings, "letter").strip().lower()
    return _compared(text.lower().count(letter), settings, "let_frequency", "let_relation")


def in_language(text: str, settings: Mapping[str, Any]) -> bool:
    wanted = _text(settings, "language").partition("-")[0]
    return language_of(text) in (wanted, "")


def language_of(text: str) -> str:
    """ISO 639-1; "" for a text without letters, which counts as followed, as in the published checker."""
    return _identifier().identify(text)[0] if any(map(str.isalpha, text)) else ""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier()


def number_of_sentences(text: str, settings: Mapping[str, Any]) -> bool:
    return _compared(count_sentences(text), settings, "num_sentences")


def count_sentences(text: str) -> int:
    """By ends of sentences before white space; what stands after the last is one, too. Abbreviations end none."""
    count = start = 0
    for end in _SENTENCE_END.finditer(text):
        piece = text[start : end.end()]
        if _ABBREVIATION.search(piece.rstrip()) and text[end.end() :].strip():
            continue
        if _WORD.search(piece):
            count += 1
            start = end.end()
    return count + bool(_WORD.search(text[start:]))


def number_of_paragraphs(text: str, settings: Mapping[str, Any]) -> bool:
    """Between dividers of three asterisks; an empty one is none at either end, and a mistake elsewhere."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if any(not part for part in parts[1:-1]):
        return False
    empty = sum(not part for part in ([parts[0], parts[-1]] if len(parts) > 1 else parts))
    return len(parts) - empty == _number(settings, "num_paragraphs")


def number_of_words(text: str, settings: Mapping[str, Any]) -> bool:
    return _compared(len(_WORD.findall(text)), settings, "num_words")


def first_word_of_paragraph(text: str, settings: Mapping[str, Any]) -> bool:
    """Paragraphs are between empty lines. The n-th is counted with empty ones, their number without them."""
    parts = [part.strip() for part in text.split("\n\n")]
    filled, place = sum(map(bool, parts)), _number(settings, "nth_paragraph")
    if not 1 <= place <= filled or not parts[place - 1]:
        return False
    first = parts[place - 1].split()[0].lstrip("'").lstrip('"').lower()
    first = re.split(r"[.,?!'\"]", first, maxsplit=1)[0]
    return filled == _number(settings, "num_paragraphs") and first == _text(settings, "first_word").lower()


def placeholders(text: str, settings: Mapping[str, Any]) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= _number(settings, "num_placeholders")


def postscript(text: str, settings: Mapping[str, Any]) -> bool:
    marker = _text(settings, "postscript_marker").strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, re.escape(marker.lower())), text.lower()) is not None


def bullets(text: str, settings: Mapping[str, Any]) -> bool:
    """Lines that begin with one asterisk, or with a hyphen."""
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    hyphens = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(hyphens) == _number(settings, "num_bullets")


def one_of_the_answers(text: str, settings: Mapping[str, Any]) -> bool:
    return any(answer in text for answer in ANSWERS)


def highlights(text: str, settings: Mapping[str, Any]) -> bool:
    """*So* or **so**; what stands between two asterisks is seen as both."""
    single = [one for one in re.findall(r"\*[^\n*]*\*", text) if one.strip("*").strip()]
    double = [one for one in re.findall(r"\*\*([^\n*]*)\*\*", text) if one.strip()]
    return len(single) + len(double) >= _number(settings, "num_highlights")


def sections(text: str, settings: Mapping[str, Any]) -> bool:
    mark = re.escape(_text(settings, "section_spliter").strip())
    return len(re.findall(rf"{mark}\s?\d+", text)) >= _number(settings, "num_sections")


def json_only(text: str, settings: Mapping[str, Any]) -> bool:
    bare = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str, settings: Mapping[str, Any]) -> bool:
    """<<so>>, on one line."""
    return any(one.lstrip("<").rstrip(">").strip() for one in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str, settings: Mapping[str, Any]) -> bool:
    """Two different ones, with six asterisks between them."""
    parts = [part.strip() for part in text.split("*" * 6)]
    given = [part for part in parts if part]
    return all(parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def repeats_prompt(text: str, settings: Mapping[str, Any]) -> bool:
    return text.strip().lower().startswith(_text(settings, "prompt_to_repeat").strip().lower())


def ends_with(text: str, settings: Mapping[str, Any]) -> bool:
    return text.strip().strip('"').lower().endswith(_text(settings, "end_phrase").strip().lower())


def quoted(text: str, settings: Mapping[str, Any]) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def capital_words(text: str, settings: Mapping[str, Any]) -> bool:
    count = sum(one.isupper() for one in _TOKEN.findall(text))
    return _compared(count, settings, "capital_frequency", "capital_relation")


def all_capitals(text: str, settings: Mapping[str, Any]) -> bool:
    """Capitals are hard on identifiers: the language is that of the small letters."""
    return text.isupper() and language_of(text.lower()) in ("en", "")


def all_lower_case(text: str, settings: Mapping[str, Any]) -> bool:
    return text.islower() and language_of(text) in ("en", "")


def no_comma(text: str, settings: Mapping[str, Any]) -> bool:
    return "," not in text


CHECKS: dict[str, Check] = {
    "keywords:existence": keywords_exist,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": no_forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": in_language,
    "length_constraints:number_sentences": number_of_sentences,
    "length_constraints:number_paragraphs": number_of_paragraphs,
    "length_constraints:number_words": number_of_words,
    "length_constraints:nth_paragraph_first_word": first_word_of_paragraph,
    "detectable_content:number_placeholders": placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": bullets,
    "detectable_format:constrained_response": one_of_the_answers,
    "detectable_format:number_highlighted_sections": highlights,
    "detectable_format:multiple_sections": sections,
    "detectable_format:json_format": json_only,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeats_prompt,
    "startend:end_checker": ends_with,
    "startend:quotation": quoted,
    "change_case:capital_word_frequency": capital_words,
    "change_case:english_capital": all_capitals,
    "change_case:english_lowercase": all_lower_case,
    "punctuation:no_comma": no_comma,
}
"""By the names that IFEval gives them."""
