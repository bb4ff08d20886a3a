"""Words: a text as words and sentences, the way rules count them, each different word looked at once.

`split_words` cuts what stands between white space into words as spaCy's rules for English do (punctuation at either
end, contractions, hyphens between letters), because that is what FineWeb's thresholds were set on; in other languages
written with spaces the same rules hold. `Vocabulary` turns a text into numbers: a chunk seen before costs one look-up.
This module does not know rules or documents.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _listed(words: str) -> list[str]:
    """Words with spaces between them, as a list."""
    return words.split()


# Openers and closers that stand as words of their own at either end of a chunk.
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_CURRENCY = _listed("US$ C$ A$ $ £ € ¥ ฿ ₽ ﷼ ₴") + [chr(c) for c in range(0x20A0, 0x20C0)]
_UNITS = _listed(
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч "
    "кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тб كم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ "
    "كوب اكواب"
)
_DASHES = "(?:-|–|—|--|---|——|~)"
_LETTER = r"[^\W\d_]"
# Most chunks that are not letters alone: a word with an opener or a closer. A full stop after a capital is no closer.
_SIMPLE = re.compile(r"""(["(]?)([A-Za-z]+)([,;:!?)"]|(?<=[a-z])\.)?\Z""")
_DIGIT = re.compile("[0-9]")
_KNOWN_CHUNKS = 1 << 17  # the memory of a vocabulary: about 100 MB at most
_KNOWN_WORDS = 1 << 17

_BASE = 0x9E3779B97F4A7C15  # odd, so that it can be divided by modulo 2**64
_MASK = (1 << 64) - 1
_COLUMN_TYPES = {"lengths": np.int64, "common": np.uint8, "hashes": np.uint64, "shifts": np.uint64}
COMMON_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_COMMON = {word: 1 << place for place, word in enumerate(COMMON_WORDS)}

# Sentences end at these (Unicode's STerm, as spaCy's sentencizer has it).
SENTENCE_ENDS = frozenset(
    "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？𐩖𐩗𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼𑊩𑑋𑑌𑗂𑗃"
    "𑗉𑗊𑗋𑗌𑗍𑗎𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑩂𑩃𑪛𑪜𑱁𑱂𖩮𖩯𖫵𖬷𖬸𖭄𛲟𝪈｡。"
)

# Unicode's Sentence_Terminal property, of which the above is an older version.
TERMINAL_MARKS = SENTENCE_ENDS.union("᭽᭾𑽃𑽄࠷࠹࠽࠾𑻷𑻸𑥄𑥆𐾆𐾇𐾈𐾉𐽕𐽖𐽗𐽘𐽙។៕៖៙៚؝؞⹓⹔𖺘")
# What makes a word a symbol: marks of punctuation, control characters, and the ends of sentences.
SYMBOLS = TERMINAL_MARKS.union(
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»",
    map(chr, (*range(9), *range(11, 32), *range(127, 160))),
)


def _letters(test: str) -> str:
    """The letters of Latin, Greek, Cyrillic and Armenian for which `str.islower` or `str.isupper` holds."""
    return "".join(re.escape(c) for c in map(chr, range(0x0590)) if getattr(c, test)() and c.isalpha())


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """(prefix, suffix, infix, address): compiled when the first text is read, for they hold all pictographs."""
    signs = _signs()
    marks = "".join(map(re.escape, dict.fromkeys(_PUNCTUATION + _QUOTES)))
    quotes = "".join(map(re.escape, _QUOTES))
    money = "|".join(map(re.escape, _CURRENCY))
    units = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
    lower, upper = _letters("islower"), _letters("isupper")
    prefix = rf"§|%|=|—|–|\+(?![0-9])|\.\.+|[{marks}]|{money}|[{signs}]"
    suffix = (
        rf"(?:……|\.\.+|['’][sS]|[{marks}]|[{signs}]|—|–|(?<=[0-9])\+|(?<=°[FfCcKk])\.|(?<=[0-9])(?:{money})"
        rf"|(?<=[0-9])(?:{units})|(?<=[0-9{lower}%²\-\+{marks}])\.|(?<=[{upper}][{upper}])\.)\Z"
    )
    infix = (
        rf"\.\.+|…|[{signs}]|(?<=[0-9])[+\-\*^](?=[0-9-])|(?<=[{lower}{quotes}])\.(?=[{upper}{quotes}])"
        rf"|(?<={_LETTER}),(?={_LETTER})|(?<=[^\W_]){_DASHES}(?={_LETTER})|(?<=[^\W_])[:<>=/](?={_LETTER})"
    )
    address = (
        r"(?:[\w+.-]{2,}://)?(?:\S+(?::\S*)?@)?"
        r"(?:\d{1,3}(?:\.\d{1,3}){3}|(?:(?:[A-Za-z0-9¡-\uffff][A-Za-z0-9¡-\uffff_-]{0,62})?[A-Za-z0-9¡-\uffff]\.)+"
        rf"[a-z{lower}]{{2,63}})(?::\d{{2,5}})?(?:[/?#]\S*)?\Z"
    )
    return tuple(re.compile(one) for one in (prefix, suffix, infix, address))  # type: ignore[return-value]


def _signs() -> str:
    places = chain(range(0xA6, 0x10000), range(0x1F000, 0x1FB00))
    return "".join(re.escape(chr(c)) for c in places if unicodedata.category(chr(c)) == "So")


@lru_cache(maxsize=1)
def _may_part() -> re.Pattern[str]:
    """A character of which some infix has one: one look for all of them."""
    return re.compile(rf"[.…,:<>=/+*^~–—\-{_signs()}]")


def _contractions() -> dict[str, tuple[str, ...]]:
    """Chunks that are cut at their apostrophe, or where it should have been."""
    cut: dict[tuple[str, ...], None] = {}
    tails = {"i": "'ll 've 'd 'm", "you": "'ll 've 'd 're", "we": "'ll 've 'd 're", "they": "'ll 've 'd 're"}
    tails |= dict.fromkeys(("he", "she", "it"), "'ll 'd 's")
    tails |= dict.fromkeys(("these", "those"), "'ll 'd 're 've")
    tails |= dict.fromkeys(_listed("who what when where why how there that this"), "'ll 'd 's 're 've")
    for who, ends in tails.items():
        for tail in ends.split():
            cut[who, tail] = None
            if tail in ("'ll", "'d"):
                cut[who, tail, "'ve"] = None
    for verb in _listed("ca could did do does had may might must need ought sha should wo would"):
        cut[verb, "n't"] = cut[verb, "n't", "'ve"] = None
    for verb in _listed("ai are dare has have is was were"):
        cut[verb, "n't"] = None
    for verb in _listed("could might must not should would"):
        cut[verb, "'ve"] = None
    found: dict[str, tuple[str, ...]] = {}
    # Words that are also something else are left whole without their apostrophe.
    whole = {"ill", "hell", "shell", "well", "were", "its", "shed", "whore"}
    for parts in cut:
        for form in (parts, (parts[0].capitalize(), *parts[1:])):
            found["".join(form)] = form
            curly = tuple(part.replace("'", "’") for part in form)
            found["".join(curly)] = curly
            bare = tuple(part.replace("'", "") for part in form)
            if "".join(bare).lower() not in whole:
                found.setdefault("".join(bare), bare)
    return found


# Faces, abbreviations and short forms that stay whole.
_WHOLE = (
    "'em 'Em ’em ’Em 'Cause 'cause 'bout ’bout 'til 'nuff 'n' 'coz 'cos 'Cos 'Coz nothin' Nothin' doin' Doin' "
    "goin' Goin' havin' Havin' lovin' Lovin' somethin' Somethin' ol' Ol' ma'am Ma'am o'clock O'clock and/or "
    "w/o 's 'S ’s ’S ‘s ‘S 're ’re 'll ’ll 'd ’d '' ’’ 'cuz 'Cuz ’cuz ’cause ’Cause ’cos ’Cos ’coz ’nuff "
    "Doin’ doin’ Goin’ goin’ Havin’ havin’ Lovin’ lovin’ Nothin’ nothin’ Nuthin’ nuthin’ Ol’ ol’ Somethin’ "
    "somethin’ c'mon C'mon c’mon C’mon Adm. Ak. Mt. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. "
    "i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. a.m. Ph.D. Prof. Rep. Rev. Sen. St. "
    "vs. v.s. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. Ala. Ariz. Ark. Calif. Colo. Conn. "
    "Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. "
    "Neb. Nebr. Nev. Okla. Ore. Pa. S.C. Tenn. Va. Wash. Wis. :) :( :-) :-( ;) ;-) :D :-D :P :-P :p :-p :/ "
    ":-/ :o :O :-O :-o :3 =) =( =D =] :] :[ <3 </3 :* :-* :'( :’( xD XD ^_^ ^__^ -_- o_o O_O o.o O.O 0_0 T_T "
    ">.< ;D :| :-| 8) 8-) (: (; (= (-: :)) :))) :(( ¯\\(ツ)/¯ C++ Nuthin' nuthin' (-8 (-; (-_-) (._.) (^_^) "
    "(>_<) (*_*) ): )-: 8-D :') :'-) :'-( :-)) :-))) :-(( :-((( :((( :() :-0 :-3 :-> :> :-X :-x :X :x :-] :-} "
    ":} :0 :1 :o) ;-D ;_; <.< <33 <333 =/ =3 =[ =| >.> >:( >:o o.O [-: [: [= ]= "
)


def _special() -> dict[str, tuple[str, ...]]:
    found = _contractions()
    for entry in _listed("can|not gon|na got|ta let|'s let|’s i|ma i|'ma i|’ma how|'d|'y how|’d|’y"):
        parts = entry.split("|")
        for form in (tuple(parts), (parts[0].capitalize(), *parts[1:])):
            found["".join(form)] = form
    for hour in range(1, 13):
        for half in ("am", "pm", "a.m.", "p.m."):
            found[f"{hour}{half}"] = (str(hour), half)
    for whole in _listed(_WHOLE):
        found[whole] = (whole,)
    found |= {"y'all": ("y'", "all"), "y’all": ("y’", "all"), "yall": ("y", "all")}
    found |= {f"°{scale}.": ("°", scale, ".") for scale in "cfkCFK"}
    for letter in "abcdefghijklmnopqrstuvwxyzäöü":
        found[f"{letter}."] = (f"{letter}.",)
    return found


_SPECIAL = _special()


@lru_cache(1 << 12)  # of one text, words are asked for and sentences counted
def split_chunk(chunk: str) -> tuple[str, ...]:
    """The words of one run of characters without white space; joined they are the chunk."""
    if chunk.isalpha() and chunk not in _SPECIAL and not _has_sign(chunk):
        return (chunk,)
    if (simple := _SIMPLE.match(chunk)) and not (_SPECIAL.keys() & _parts(chunk, simple)):
        return tuple(part for part in simple.groups() if part)
    prefix, suffix, infix, address = _patterns()
    before: list[str] = []
    after: list[str] = []
    rest = chunk
    while rest and rest not in _SPECIAL:
        first = prefix.match(rest)
        start = first.end() if first else 0
        if start and rest[start:] in _SPECIAL:
            before.append(rest[:start])
            rest = rest[start:]
            break
        last = suffix.search(rest, start) if _may_end(rest) else None
        end = last.start() if last else len(rest)
        if last and rest[:end] in _SPECIAL:
            after.append(rest[end:])
            rest = rest[:end]
            break
        if not start and not last:
            break
        if start:
            before.append(rest[:start])
        if last:
            after.append(rest[end:])
        rest = rest[start:end]
    middle: list[str] = []
    if rest in _SPECIAL:
        middle.extend(_SPECIAL[rest])
    elif rest and address.match(rest):
        middle.append(rest)
    elif rest:
        middle.extend(_at_infixes(rest, infix))
    return _rejoined([*before, *middle, *reversed(after)])


def _may_end(text: str) -> bool:
    """Whether a suffix may stand at its end: none ends in a digit, nor in a letter but for 's and units of numbers."""
    last = text[-1]
    if last.isalpha():
        return text[-2:-1] in ("'", "’") or _DIGIT.search(text) is not None
    return not "0" <= last <= "9"


def _rejoined(words: list[str]) -> tuple[str, ...]:
    """Faces and doubled quotes whose parts were cut as punctuation, joined again, the longest first."""
    if len(words) < 2:
        return tuple(words)
    found, start = [], 0
    while start < len(words):
        for end in range(min(len(words), start + 4), start + 1, -1):
            whole = "".join(words[start:end])
            if _SPECIAL.get(whole) == (whole,) and not whole[0].isalpha():
                found.append(whole)
                start = end
                break
        else:
            found.append(words[start])
            start += 1
    return tuple(found)


def _parts(chunk: str, simple: re.Match[str]) -> tuple[str, ...]:
    """A chunk of an opener, letters and a closer, and what it is without either."""
    start, end = simple.span(2)
    return chunk, chunk[start:], chunk[:end], chunk[start:end]


def _has_sign(chunk: str) -> bool:
    return not chunk.isascii() and any(unicodedata.category(c) == "So" for c in chunk)


def _at_infixes(text: str, infix: re.Pattern[str]) -> list[str]:
    if not _may_part().search(text):
        return [text]
    words, start = [], 0
    for found in infix.finditer(text):
        if found.start() == start:
            continue
        words += [text[start : found.start()], found.group()]
        start = found.end()
    if start < len(text):
        words.append(text[start:])
    return words


class Vocabulary:
    """Words as numbers, and what is known of each, in arrays that a text's word numbers index.

    A number means the same word until `forget` starts anew; `words_of` does so when it has learnt too many, before it
    reads a text, so that memory does not grow with the corpus.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew with no word known."""
        self._chunks: dict[str, tuple[int, ...]] = {}
        self._numbers: dict[str, int] = {}
        self._columns: dict[str, list[Any]] = {"lengths": [], "symbols": [], "letters": []}
        self._columns |= {"common": [], "hashes": [], "shifts": []}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._filled: dict[str, int] = {}

    def numbers_of(self, text: str) -> list[int]:
        """The words of a text as numbers, in order."""
        return list(chain.from_iterable(self.groups_of(text.split())))

    def groups_of(self, chunks: list[str]) -> list[tuple[int, ...]]:
        """The words of each chunk (what stands between white space) as numbers."""
        known = self._chunks
        try:
            return [known[chunk] for chunk in chunks]
        except KeyError:
            for chunk in set(chunks).difference(known):
                known[chunk] = tuple(map(self._number, split_chunk(chunk)))
            return [known[chunk] for chunk in chunks]

    def make_room(self) -> None:
        """Forget everything if it has become too much; numbers given before are void then."""
        if len(self._chunks) > _KNOWN_CHUNKS or len(self._numbers) > _KNOWN_WORDS:
            self.forget()

    def _number(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._numbers)
            columns = self._columns
            columns["lengths"].append(len(word))
            columns["symbols"].append(all(c in SYMBOLS for c in word))
            columns["letters"].append(any(map(str.isalpha, word)))
            columns["common"].append(_COMMON.get(word, 0))
            polynomial, shift = 0, 1
            for c in word:
                polynomial = (polynomial * _BASE + _mixed(ord(c))) & _MASK
                shift = shift * _BASE & _MASK
            columns["hashes"].append(polynomial)
            columns["shifts"].append(shift)
        return number

    def column(self, name: str) -> NDArray[Any]:
        """What is known of every word: lengths (int64), symbols, letters (bool), common (uint8, one bit a word),
        hashes and shifts (uint64, see `repetition`)."""
        values, filled = self._columns[name], self._filled.get(name, 0)
        array = self._arrays.get(name)
        if array is None or len(array) < len(values):
            array = np.zeros(2 * len(values) + 1024, _COLUMN_TYPES.get(name, bool))
            self._arrays[name], filled = array, 0
        if filled < len(values):
            array[filled : len(values)] = values[filled:]
            self._filled[name] = len(values)
        return array


@lru_cache(1 << 16)
def _mixed(code: int) -> int:
    """64 bits that depend on all bits of a code point (splitmix64's finaliser, Steele et al. 2014)."""
    code = (code + 0x9E3779B97F4A7C15) & _MASK
    code = (code ^ (code >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    code = (code ^ (code >> 27)) * 0x94D049BB133111EB & _MASK
    return code ^ (code >> 31)


def split_words(text: str) -> list[str]:
    """The words of a text, white space between them left out."""
    return [word for chunk in text.split() for word in split_chunk(chunk)]
