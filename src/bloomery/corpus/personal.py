"""Personal data: what in a text names or reaches a person, found by pattern and check, and dealt with.

Precision comes before recall where a number has no check of its own: then a word beside it must say what it is. This
module does not know how a stand-in is made, nor files.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.corpus.credentials import credentials
from bloomery.corpus.document import Document
from bloomery.corpus.identifiers import IBAN_LENGTHS, NATIONAL, card, digits_of, iban
from bloomery.corpus.personal_config import PersonalConfig
from bloomery.corpus.pseudonyms import Pseudonyms
from bloomery.corpus.record import Record

_EMAIL = re.compile(
    r"(?<![^\W_])(?<![%'])[^\W_](?:[\w%+'-]|\.(?!\.)){0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9@]|-[A-Za-z0-9])"
)
_NO_MAIL = re.compile(
    r"(?:[@.]example\.(?:com|org|net|edu)|\.(?:example|test|invalid|localhost|png|jpe?g|gif|svg|webp|css|js))\Z",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:{1,2}){2,7}(?:[0-9A-Fa-f]{1,4})?(?![\w:])")
_NO_ADDRESS = re.compile(
    r"(?:\b(?:version|ver\.?|release|firmware|build|section|chapter|update|v)|§)\s*$", re.IGNORECASE
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")

_CARD = re.compile(r"(?<![\w.,+-])\d(?:[ .-]?\d){12,18}(?![\w]|[.,-]\d)")
_IBAN = re.compile(rf"\b(?:{'|'.join(IBAN_LENGTHS)})\d{{2}}(?: ?[A-Z0-9]{{4}}){{2,7}}(?: ?[A-Z0-9]{{1,3}})?\b")

_PLUS = re.compile(r"(?<![\w+])\+\d{1,3}(?:[ .()/-]{0,2}\d){7,13}(?!\d)")
_AMERICAN = re.compile(
    r"(?<![\w.+/-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?![\w]|[.-]\d)"
)
_NAMED_PHONE = re.compile(
    r"(?i:\b(?:tel(?:ephone|efon|éfono|\.)?|phone|fax|mobile|mobil|handy|cell|ph|whatsapp|téléphone|telefono|call|"
    r"rufnummer|portable)\b[^\d\n]{0,12}?)(?P<value>\(?0?\d(?:[ ().\/-]{0,2}\d){6,12})(?![\w]|[.-]\d)"
)

# What stands before a number that is a thing's and no person's.
_THING = re.compile(
    r"\b(?:order|invoice|part|lot|batch|ref(?:erence)?|sku|item|model|serial|tracking|ticket|case|isbn|issn|upc|ean|doi)"
    r"\W{0,3}(?:no\.?|number|nr\.?|#|id)?\W{0,3}$",
    re.IGNORECASE,
)

# Identifiers whose form says what they are, then those beside which a word must say it.
_SHAPED_IDS = (
    ("us_ssn", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")),
    ("uk_ni", re.compile(r"\b[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b")),
    ("fr_insee", re.compile(r"(?<![\w.-])[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[ABab]) ?\d{3} ?\d{3} ?\d{2}(?![\w.-])")),
    ("es_dni", re.compile(r"\b(?:\d{8}|\d{2}\.\d{3}\.\d{3}|[XYZ]-?\d{7})-?[A-Z]\b")),
    ("it_fiscal", re.compile(r"\b[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\b", re.IGNORECASE)),
    ("in_aadhaar", re.compile(r"(?<![\w-])[2-9]\d{3} \d{4} \d{4}(?![\w-]| \d)")),
    ("br_cpf", re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w.-])")),
)
_NAMED_IDS = tuple(
    (what, re.compile(rf"(?i:\b(?:{words})\b[^\d\n]{{0,24}}?)(?P<value>{pattern})(?![\w-])"))
    for what, words, pattern in (
        ("us_ssn", "ssn|social security(?: number| no\\.?)?", r"\d{3}[ -]?\d{2}[ -]?\d{4}"),
        (
            "de_tax",
            "steuer-?id(?:entifikationsnummer|nr\\.?)?|idnr\\.?|steuerliche identifikationsnummer|tax id",
            r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        ),
        ("in_aadhaar", "aadhaar|aadhar|uidai|uid", r"\d{4}[ -]?\d{4}[ -]?\d{4}"),
        ("br_cpf", "cpf", r"\d{11}"),
        ("nl_bsn", "bsn|burgerservicenummer|sofinummer", r"\d{9}"),
        ("pl_pesel", "pesel", r"\d{11}"),
        ("ca_sin", "sin|social insurance(?: number| no\\.?)?", r"\d{3}[ -]?\d{3}[ -]?\d{3}"),
    )
)
_SPARED_EXCHANGE = re.compile(r"55501\d\d\Z")


@dataclass(frozen=True)
class Found:
    """A value in a text: its kind (email, ip, phone, card, iban, national_id, secret), what kind of that, its place."""

    kind: str
    what: str
    start: int
    end: int


def find_personal(text: str, kinds: Iterable[str] | None = None) -> list[Found]:
    """What of these kinds (None: all) is in the text, in order, no two overlapping: the more certain kind wins."""
    wanted = set(_FINDERS) if kinds is None else set(kinds)
    taken: list[Found] = []
    places: list[tuple[int, int]] = []  # of what is taken, in order
    for kind, finder in _FINDERS.items():
        if kind not in wanted:
            continue
        found = finder(text)
        if kind == "secret":  # a token within a quoted password: the longest, or its rest would stay
            found = sorted(found, key=lambda one: one[1] - one[2])
        for what, start, end in found:
            at = bisect(places, (start, end))
            if (at == 0 or places[at - 1][1] <= start) and (at == len(places) or end <= places[at][0]):
                places.insert(at, (start, end))
                taken.append(Found(kind, what, start, end))
    return sorted(taken, key=lambda found: found.start)


def _emails(text: str) -> Iterator[tuple[str, int, int]]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            if not _NO_MAIL.search(found.group()) and ".." not in found.group():
                yield "email", *found.span()


def _addresses(text: str) -> Iterator[tuple[str, int, int]]:
    for found in _IPV4.finditer(text):
        before = text[max(0, found.start() - 12) : found.start()]
        if _public(found.group()) and not _NO_ADDRESS.search(before):
            yield "ipv4", *found.span()
    if text.count(":") > 2:
        for found in _IPV6.finditer(text):
            groups = [group for group in found.group().split(":") if group]
            if len(groups) > 2 and _public(found.group()):
                yield "ipv6", *found.span()


def _public(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast


def _cards(text: str) -> Iterator[tuple[str, int, int]]:
    for found in _CARD.finditer(text):
        if card(found.group()) and not _of_a_thing(text, found.start()):
            yield "card", *found.span()


def _of_a_thing(text: str, start: int) -> bool:
    return bool(_THING.search(text[max(0, start - 24) : start]))


def _accounts(text: str) -> Iterator[tuple[str, int, int]]:
    for found in _IBAN.finditer(text):
        value = found.group()
        length, plain, end = IBAN_LENGTHS[value[:2]], 0, 0
        for end, c in enumerate(value, 1):  # noqa: B007
            plain += c != " "
            if plain == length:
                break
        if iban(value[:end]) and (end == len(value) or value[end] == " "):
            yield "iban", found.start(), found.start() + end


def _persons(text: str) -> Iterator[tuple[str, int, int]]:
    for what, pattern in _SHAPED_IDS:
        for found in pattern.finditer(text):
            if NATIONAL[what](found.group()) and not _of_a_thing(text, found.start()):
                yield what, *found.span()
    for what, pattern in _NAMED_IDS:
        for found in pattern.finditer(text):
            if NATIONAL[what](found["value"]):
                yield what, *found.span("value")


def _phones(text: str) -> Iterator[tuple[str, int, int]]:
    for pattern, group in ((_PLUS, 0), (_AMERICAN, 0), (_NAMED_PHONE, "value")):
        for found in pattern.finditer(text):
            value = found[group]
            digits = digits_of(value)
            nobody = _SPARED_EXCHANGE.search(digits) or digits.startswith(("999", "000")) or len(set(digits)) < 3
            if 7 <= len(digits) <= 15 and not nobody and not _of_a_thing(text, found.start(group)):
                yield "phone", *found.span(group)


_FINDERS: dict[str, Callable[[str], Iterator[tuple[str, int, int]]]] = {
    "secret": credentials,
    "email": _emails,
    "iban": _accounts,
    "card": _cards,
    "national_id": _persons,
    "ip": _addresses,
    "phone": _phones,
}


class Scrubber:
    """Deals with personal data in documents as a config says."""

    def __init__(self, config: PersonalConfig) -> None:
        self._actions = config.actions
        self._pseudonyms = Pseudonyms(config.seed)

    def scrubbed(self, record: Record) -> Record:
        """A document without it, or taken out; what was found is counted in the record."""
        if record.kind != "document":
            return record
        found = find_personal(record.text, self._actions)
        record.metadata = self._cleaned(record.metadata)
        if not found:
            return record
        record.found = dict(sorted(Counter(one.kind for one in found).items()))
        dropping = Counter(one.what for one in found if self._actions[one.kind] == "drop")
        if dropping:
            said = ", ".join(f"{count} {what}" for what, count in sorted(dropping.items()))
            return record.take("personal_data", said, {"score": dropping.total(), "threshold": 0})
        metadata = {**record.metadata, "personal_data": record.found}
        record.put(Document.of(self.replaced(record.text, found), record.source, metadata))
        if record.scores is not None:  # the row of the document that the corpus holds
            record.scores["id"] = record.id
        return record

    def clean(self, text: str) -> str:
        """The text without personal data, whatever is done with its document."""
        return self.replaced(text, find_personal(text, self._actions))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, (list, tuple)):
            return [self._cleaned(one) for one in value]
        return {k: self._cleaned(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    def replaced(self, text: str, found: Iterable[Found]) -> str:
        """The text with each value masked or replaced."""
        parts, at = [], 0
        for one in found:
            value = text[one.start : one.end]
            masked = self._actions[one.kind] == "mask"
            parts += [
                text[at : one.start],
                f"<{one.kind}>" if masked else self._pseudonyms.of(one.kind, one.what, value),
            ]
            at = one.end
        return "".join([*parts, text[at:]])


class PersonalTally:
    """Counts what was found in the records of a corpus."""

    def __init__(self, config: PersonalConfig) -> None:
        self._actions = config.actions
        self._found: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Any record."""
        self._found.update(record.found or {})

    def close(self) -> None:
        """There is nothing to write."""

    def report(self) -> dict[str, Any]:
        """What `report.json` says: values by kind, and what was done with them."""
        return {kind: {"action": does, "found": self._found[kind]} for kind, does in self._actions.items()}
