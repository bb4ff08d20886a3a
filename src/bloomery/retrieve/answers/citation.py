"""Citations: which words of which document bear a statement out, checked to stand there.

A citation's quote is always the document's own text at its range; what a model claims to quote and no passage holds is
no citation, and a statement without one is unsupported. That words stand there says nothing of whether they imply the
statement. This module does not know models.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bloomery.retrieve.answers.passages import Passage, Piece
from bloomery.retrieve.untrusted import RESTORED, SHOWN, is_invisible

_ALIKE = dict.fromkeys("‘’‚‛′`´", "'") | dict.fromkeys("“”„‟″«»", '"') | dict.fromkeys("‐‑‒–—―−", "-") | {"…": "..."}
_GAP = re.compile(r"\s*(?:\[\s*(?:\.\.\.|…)\s*\]|\.\.\.|…)\s*")
_MARKER = re.compile(
    r"\s?[\[【]\s*(?:passage\s+)?(\d{1,3}(?:\s*[,;]\s*(?:passage\s+)?\d{1,3})*)\s*[\]】]", re.IGNORECASE
)
_SENTENCE = re.compile(
    r"[.!?][\"'”’)\]]*(?:\s?[\[【][\d\s,;]+[\]】])*(?=\s|$)|[。！？।](?:\s?[\[【][\d\s,;]+[\]】])*|\n+"
)
_ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|al|Dr|Mr|Mrs|Ms|Prof|Fig|No|St|approx)|\b[A-Z])\.\Z")
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
SPAN_WORDS = 4
"""Words in a row that an answer shares with a passage, to be called taken from it."""


@dataclass(frozen=True, kw_only=True)
class Citation:
    """`quote` is the document's text from `start` to `end`, in characters."""

    document_id: str
    chunk_id: str
    start: int
    end: int
    quote: str
    passage: int
    """Its number, from 1, among those that were read."""
    match: Literal["exact", "normalised"] = "exact"
    """How a quote that a model wrote agrees with it: to the character, or but for case, white space and marks."""
    by: Literal["quote", "marker", "span", "extract"] = "quote"
    """What led to it: quoted words, the number of a passage (then the sentence of it that shares most with the
    statement), words found to be shared, or a sentence taken as the answer."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence of an answer. `support` is the share of its words that the cited text has; `supported` that there is
    a citation, and enough of it."""

    text: str
    citations: tuple[Citation, ...] = ()
    support: float = 0.0
    supported: bool = False
    why: str = ""
    """Why it is not supported."""

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "citations": [one.to_dict() for one in self.citations]}


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Where sentences begin and end, white space around them left out; markers behind a sentence are its own."""
    made, begin = [], 0
    ends = [m.end() for m in _SENTENCE.finditer(text) if not _ABBREVIATED.search(text[max(0, m.start() - 8) : m.end()])]
    for end in [*ends, len(text)]:
        part = text[begin:end]
        bare = part.strip()
        if bare:
            start = begin + len(part) - len(part.lstrip())
            made.append((start, start + len(bare)))
        begin = end
    return made


def terms(text: str) -> set[str]:
    """What a sentence is about: its words of four letters or more, and everything with a digit; pairs of characters
    in scripts without spaces. All its words where it has none of these."""
    words = _WORD.findall(normalised(text)[0])
    found: set[str] = set()
    for word in words:
        if _UNSPACED.search(word):
            found |= {word[n : n + 2] for n in range(max(1, len(word) - 1))}
        elif len(word) >= 4 or any(c.isdigit() for c in word):
            found.add(word[:-1] if word.endswith("s") and len(word) > 4 else word)
    return found or set(words)


def numbers(text: str) -> dict[str, str]:
    """Its words with a digit, without the marks between digits, each with the word as it stands."""
    words = [word for word in _WORD.findall(normalised(text)[0]) if any(c.isdigit() for c in word)]
    return {re.sub("[.,]", "", word): word for word in words}


def support_of(statement: str, source: str) -> float:
    """The share of a statement's terms that a source has; 0 where it lacks one of the statement's numbers."""
    wanted, there = terms(statement), terms(source)
    if not wanted or any(any(c.isdigit() for c in term) and term not in there for term in wanted):
        return 0.0
    return len(wanted & there) / len(wanted)


def normalised(text: str) -> tuple[str, list[int]]:
    """A text without what makes no difference to a reader (case, width, kinds of quotes and dashes, white space,
    characters that are not seen), and for each of its characters the place of the original one."""
    out: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isspace():
            if out and out[-1] != " ":
                out.append(" ")
                places.append(place)
            continue
        if is_invisible(character):
            continue
        plain = _ALIKE.get(character) or character.translate(RESTORED)
        for one in unicodedata.normalize("NFKC", plain).casefold():
            out.append(one)
            places.append(place)
    return "".join(out), places


def find_quote(quote: str, passages: Sequence[Passage], *, prefer: int = 0) -> list[Citation]:
    """Where a quote stands: one citation, or one for each part where dots stand for words left out; [] if it, or a
    part of it, stands nowhere. The passage of number `prefer` is looked at first."""
    order = sorted(range(1, len(passages) + 1), key=lambda number: number != prefer)
    bare = SHOWN.sub("", quote).strip().strip('"“”«»').strip()
    if not bare:
        return []
    for number in order:
        if whole := _in_passage(bare, passages[number - 1], number):
            return [whole]
    parts = [part for part in _GAP.split(bare) if part]
    if len(parts) < 2:
        return []
    for number in order:
        found = [_in_passage(part, passages[number - 1], number) for part in parts]
        starts = [one.start for one in found if one]
        if len(starts) == len(parts) and starts == sorted(starts):
            return [one for one in found if one]
    return []


def _in_passage(quote: str, passage: Passage, number: int) -> Citation | None:
    for piece in passage.pieces:
        at = _bounded(piece.text, quote)
        if at >= 0:
            return cited(passage, piece, number, at, at + len(quote))
        text, places = normalised(piece.text)
        wanted = normalised(quote)[0].strip()
        at = _bounded(text, wanted) if wanted else -1
        if at >= 0:
            return cited(passage, piece, number, places[at], places[at + len(wanted) - 1] + 1, match="normalised")
    return None


def _bounded(text: str, wanted: str) -> int:
    """The first place of `wanted` where it begins and ends no other word in its middle; -1 without one."""
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        inside = (at > 0 and text[at - 1].isalnum() and wanted[0].isalnum()) or (
            end < len(text) and text[end].isalnum() and wanted[-1].isalnum()
        )
        if not inside or _UNSPACED.search(wanted[0] + wanted[-1]):
            return at
        at = text.find(wanted, at + 1)
    return -1


def cited(
    passage: Passage,
    piece: Piece,
    number: int,
    start: int,
    end: int,
    *,
    match: Literal["exact", "normalised"] = "exact",
    by: Literal["quote", "marker", "span", "extract"] = "quote",
) -> Citation:
    """The citation of `piece.text[start:end]`."""
    where = piece.start + start, piece.start + end
    return Citation(
        document_id=passage.document_id,
        chunk_id=piece.chunk_id(*where),
        start=where[0],
        end=where[1],
        quote=piece.text[start:end],
        passage=number,
        match=match,
        by=by,
    )


def by_markers(text: str, passages: Sequence[Passage], *, least: float) -> tuple[str, list[Statement]]:
    """An answer whose sentences end in numbers of passages, as text without them that do not exist, and its
    statements: each cites the sentence of the passage that shares most with it."""
    made = []
    for start, end in split_sentences(text):
        sentence = text[start:end]
        numbers = [int(n) for found in _MARKER.findall(sentence) for n in re.findall(r"\d+", found)]
        bare = _MARKER.sub("", sentence).strip()
        if not re.search(r"\w", bare):
            continue
        real = list(dict.fromkeys(n for n in numbers if 1 <= n <= len(passages)))
        citations = [one for n in real if (one := best_sentence(bare, passages[n - 1], n)) is not None]
        wrong = "" if numbers else "it cites nothing"
        wrong = wrong if real or not numbers else f"there is no passage {numbers[0]}"
        made.append(judged(bare, citations, [passages[n - 1].text for n in real], least=least, why=wrong))

    def kept(found: re.Match[str]) -> str:
        numbers = [n for n in re.findall(r"\d+", found[1]) if 1 <= int(n) <= len(passages)]
        return f" [{', '.join(numbers)}]" if numbers else ""

    return _MARKER.sub(kept, text).strip(), made


def judged(
    statement: str, citations: Sequence[Citation], sources: Sequence[str], *, least: float, why: str = ""
) -> Statement:
    """A statement with its citations: supported where the sources have enough of its words."""
    support = support_of(statement, " ".join(sources)) if sources else 0.0
    reason = why
    if not reason and citations and support < least:
        reason = f"only {support:.0%} of its words, or not its numbers, stand in what it cites"
    if not reason and not citations:
        reason = "nothing that it cites was found"
    return Statement(text=statement, citations=tuple(citations), support=support, supported=not reason, why=reason)


def best_sentence(statement: str, passage: Passage, number: int) -> Citation | None:
    """The sentence of a passage that shares most terms with a statement; None where none shares any."""
    wanted = terms(statement)
    best: tuple[float, Piece, int, int] | None = None
    for piece in passage.pieces:
        for start, end in split_sentences(piece.text):
            has = terms(piece.text[start:end])
            shared = len(wanted & has) / len(wanted) + 1e-3 * len(wanted & has) / len(has) if wanted and has else 0.0
            if shared and (best is None or shared > best[0]):
                best = (shared, piece, start, end)
    return None if best is None else cited(passage, best[1], number, best[2], best[3], by="marker")


def by_quotes(
    text: str, quotes: Sequence[tuple[int, str]], passages: Sequence[Passage], *, least: float
) -> list[Statement]:
    """The statements of an answer that came with quotes, (number of the passage or 0, words) each: a statement cites
    the quotes that share terms with it."""
    found = [one for number, quote in quotes for one in find_quote(quote, passages, prefer=number)]
    missing = sum(1 for number, quote in quotes if not find_quote(quote, passages, prefer=number))
    made = []
    for start, end in split_sentences(text):
        bare = _MARKER.sub("", text[start:end]).strip()
        if not re.search(r"\w", bare):
            continue
        own = [one for one in found if terms(one.quote) & terms(bare)]
        why = "" if own else ("its quotes stand in no passage" if missing else "no quote is about it")
        # A short answer ("Paris.") is often not in the quote's sentence word for word: its passage is looked at too.
        made.append(judged(bare, own, [passages[one.passage - 1].text for one in own], least=least, why=why))
    return made


def by_spans(text: str, passages: Sequence[Passage], *, least: float) -> list[Statement]:
    """The statements of an answer that cites nothing itself: words in a row that it shares with a passage, at least
    SPAN_WORDS, or all of a shorter sentence."""
    made = []
    for start, end in split_sentences(text):
        bare = _MARKER.sub("", text[start:end]).strip()
        if not re.search(r"\w", bare):
            continue
        citations = _shared(bare, passages)
        made.append(judged(bare, citations, [passages[c.passage - 1].text for c in citations], least=least))
    return made


def _shared(statement: str, passages: Sequence[Passage]) -> list[Citation]:
    """The longest shared spans of a statement, from its beginning to its end."""
    words = list(_WORD.finditer(statement))
    shortest = min(SPAN_WORDS, len(words))
    found: list[Citation] = []
    begin = 0
    while shortest and begin + shortest <= len(words):
        best: tuple[int, Citation] | None = None
        for number, passage in enumerate(passages, 1):
            length = shortest if best is None else best[0] + 1
            while begin + length <= len(words):
                span = statement[words[begin].start() : words[begin + length - 1].end()]
                one = _in_passage(span, passage, number)
                if one is None:
                    break
                best = (length, one)
                length += 1
        if best is not None:
            found.append(Citation(**{**vars(best[1]), "by": "span"}))
        begin += best[0] if best is not None else 1
    return found
