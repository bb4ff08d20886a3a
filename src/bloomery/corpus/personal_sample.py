"""A built sample of texts with personal data at known places, and what only looks like it; precision and recall.

    python -m bloomery.corpus.personal_sample [SEED]

Values are drawn at random until their check passes, so none is taken from a person. Texts around them are our own and
have the variety of a few dozen sentences: the figures say how detectors do on forms, not on the open web. This module
does not know how anything is found.

The hard ones are apart: values that no word beside them names, in odd forms, and numbers that pass every check and are
nobody's.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bloomery.core.wilson import wilson
from bloomery.corpus.identifiers import IBAN_LENGTHS, NATIONAL, luhn, mod97
from bloomery.corpus.personal import Found, find_personal

_EACH = 60
_NAMES = [
    "anna",
    "bruno",
    "carla",
    "dmitri",
    "elena",
    "farid",
    "grace",
    "hiro",
    "ines",
    "jonas",
    "kavya",
    "liam",
    "maria",
    "noor",
    "olga",
    "pavel",
]
_HOSTS = ["mail-hub.io", "acme-tools.de", "riverside.co.uk", "uni-north.edu", "kontor.eu", "postbus.nl"]
_UPPER, _LOWER, _DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
_BASE62 = _UPPER + _LOWER + _DIGITS


@dataclass
class Sample:
    """Texts, each with the values that are to be found in it."""

    texts: list[tuple[str, list[Found]]] = field(default_factory=list)
    hard: list[tuple[str, list[Found]]] = field(default_factory=list)

    def add(self, text: str, kind: str = "", what: str = "", value: str = "", *, hard: bool = False) -> None:
        """A text; `{}` in it is where the value goes."""
        known = []
        if kind:
            start = text.index("{}")
            text, known = text.replace("{}", value, 1), [Found(kind, what, start, start + len(value))]
        (self.hard if hard else self.texts).append((text, known))


def _draw(rng: random.Random, pattern: str) -> str:
    """9 stands for a digit, A for a capital, a for a small letter, * for any of these; the rest for itself."""
    kinds = {"9": _DIGITS, "A": _UPPER, "a": _LOWER, "*": _BASE62}
    return "".join(rng.choice(kinds[c]) if c in kinds else c for c in pattern)


def _until(rng: random.Random, pattern: str, check: Callable[[str], bool], fix: Callable[[str], str] = str) -> str:
    while True:
        if check(value := fix(_draw(rng, pattern))):
            return value


def _card(rng: random.Random) -> str:
    start, length, groups = rng.choice(
        [
            ("4", 16, "9999 9999 9999 9999"),
            ("5" + rng.choice("12345"), 16, "9999999999999999"),
            ("37", 15, "9999 999999 99999"),
            ("6011", 16, "9999-9999-9999-9999"),
        ]
    )
    body = start + _draw(rng, "9" * (length - 1 - len(start)))
    digits = iter(body + next(d for d in _DIGITS if luhn(body + d)))
    return "".join(next(digits) if c == "9" else c for c in groups)


def _iban(rng: random.Random) -> str:
    country = rng.choice(["DE", "FR", "GB", "NL", "ES", "IT", "PL", "BE", "AT", "CH"])
    length = IBAN_LENGTHS[country] - 4
    body = _draw(rng, "AAAA" + "9" * (length - 4)) if country in ("GB", "NL") else _draw(rng, "9" * length)
    plain = f"{country}{98 - mod97(body + country + '00'):02}{body}"
    return " ".join(plain[i : i + 4] for i in range(0, len(plain), 4)) if rng.random() < 0.5 else plain


_MONTH = "ABCDEHLMPRST"
_IDS: dict[str, tuple[Sequence[str], str, Callable[[str, random.Random], str]]] = {
    "us_ssn": (["Her social security number is {}.", "SSN: {} (employee)"], "999-99-9999", lambda v, r: v),
    "uk_ni": (["National insurance {} on the payslip."], "AA 99 99 99 A", lambda v, r: v[:-1] + r.choice("ABCD")),
    "de_tax": (["Steuer-ID: {}", "Ihre Steueridentifikationsnummer lautet {}."], "99 999 999 999", lambda v, r: v),
    "fr_insee": (["Numéro de sécurité sociale {} ."], "9 99 99 99 999 999 99", lambda v, r: v),
    "es_dni": (["Con DNI {} y domicilio en Madrid."], "99999999A", lambda v, r: v),
    "it_fiscal": (
        ["Codice fiscale {}, nato a Torino."],
        "AAAAAA99M99A999A",
        lambda v, r: v[:8] + r.choice(_MONTH) + v[9:],
    ),
    "in_aadhaar": (["Aadhaar {} was linked."], "9999 9999 9999", lambda v, r: v),
    "br_cpf": (["CPF {} do titular."], "999.999.999-99", lambda v, r: v),
    "nl_bsn": (["BSN {} staat op de brief."], "999999999", lambda v, r: v),
    "pl_pesel": (["PESEL: {}"], "99999999999", lambda v, r: v),
    "ca_sin": (["Social insurance number {} on file."], "999 999 999", lambda v, r: v),
}


def _secrets(rng: random.Random) -> tuple[str, str]:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()).decode().rstrip("=")
    body = base64.urlsafe_b64encode(json.dumps({"sub": _draw(rng, "9999999999")}).encode()).decode().rstrip("=")
    lines = "\n".join(_draw(rng, "*" * 64) for _ in range(4))
    return rng.choice(
        [
            ("aws_access_key", "AKIA" + "".join(rng.choice(_UPPER + "234567") for _ in range(16))),
            ("github", "ghp_" + _draw(rng, "*" * 36)),
            ("openai", "sk-" + _draw(rng, "*" * 48)),
            ("slack", f"xoxb-{_draw(rng, '9' * 12)}-{_draw(rng, '*' * 24)}"),
            ("google", "AIza" + _draw(rng, "*" * 35)),
            ("jwt", f"{head}.{body}.{_draw(rng, '*' * 43)}"),
            ("private_key", f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----"),
        ]
    )


def _phone(rng: random.Random) -> tuple[str, str]:
    form = rng.choice(
        [
            "({a}) {b}-9999",
            "{a}-{b}-9999",
            "{a}.{b}.9999",
            "+1 {a} {b} 9999",
            "+44 20 7{d} 9999",
            "+49 30 99999{d}",
            "+33 6 99 99 99 99",
            "+91 98999 99999",
            "0{d} 9999999",
        ]
    )
    area = rng.choice("2345678") + _draw(rng, "9") + rng.choice("02345678")
    value = _draw(
        rng, form.format(a=area, b=rng.choice("23467") + _draw(rng, "99"), d=rng.choice("234567") + _draw(rng, "99"))
    )
    return (
        "Telefon: {}" if value.startswith("0") else rng.choice(["Call {} after six.", "My number is {}", "Ph. {}"])
    ), value


def build(seed: int = 0, each: int = _EACH) -> Sample:
    """`each` texts of every kind, and as many of every hard negative."""
    rng, sample = random.Random(seed), Sample()
    for _ in range(each):
        person = (
            f"{rng.choice(_NAMES)}{rng.choice(['.', '_', '', '+'])}{rng.choice(_NAMES)}{rng.choice(['', '7', '84'])}"
        )
        sample.add(
            rng.choice(["Write to {} today.", "<{}>", "From: {}\nTo: me"]),
            "email",
            "email",
            f"{person}@{rng.choice(_HOSTS)}",
        )
        v4 = f"{rng.choice([5, 23, 62, 81, 93, 142, 185])}.{rng.randint(1, 254)}.{rng.randint(120, 254)}." + str(
            rng.randint(1, 254)
        )
        sample.add(rng.choice(["Login from {} failed.", "host {} port 22", "[{}] GET /"]), "ip", "ipv4", v4)
        v6 = "2a02:" + ":".join(f"{rng.randint(0x100, 0xFFFF):x}" for _ in range(7))
        sample.add("Address {} was seen.", "ip", "ipv6", v6)
        text, phone = _phone(rng)
        sample.add(text, "phone", "phone", phone)
        sample.add(rng.choice(["Card {} declined.", "paid with {}, exp 04/29"]), "card", "card", _card(rng))
        sample.add(rng.choice(["IBAN {}", "Transfer to {} by Friday."]), "iban", "iban", _iban(rng))
        what, secret = _secrets(rng)
        sample.add(rng.choice(["key = {}", "export TOKEN={}\n"]), "secret", what, secret)
        for what, (texts, pattern, fix) in _IDS.items():
            value = _until(rng, pattern, NATIONAL[what], lambda v, fix=fix: fix(v, rng))
            sample.add(rng.choice(list(texts)), "national_id", what, value)
        for text in _negatives(rng):
            sample.add(text)
        for text, kind, what, value in _hard(rng):
            sample.add(text, kind, what, value, hard=True)
    return sample


def _hard(rng: random.Random) -> list[tuple[str, str, str, str]]:
    """Values with no word beside them, in odd forms; and texts that look exactly like a value."""
    d = lambda pattern: _draw(rng, pattern)  # noqa: E731
    sixteen, visa = d("499999999999999"), _until(rng, "4999999999999999", luhn)
    return [
        ("reach me on {} any day", "phone", "phone", f"0{rng.choice('234567')}{d('99 9999999')}"),
        ("{} (work)", "phone", "phone", f"{rng.choice('2345678')}{d('19')}{rng.choice('23467')}{d('999999')}"),
        ("Nummer {} bitte", "national_id", "de_tax", _until(rng, "99999999999", NATIONAL["de_tax"])),
        ("nr {} in het dossier", "national_id", "nl_bsn", _until(rng, "999999999", NATIONAL["nl_bsn"])),
        ("node {} is down", "ip", "ipv6", f"2a02:{rng.randint(0x100, 0xFFFF):x}::{rng.randint(0x10, 0xFFFF):x}"),
        ("an {} geschickt", "email", "email", f"j\u00f6rg.{rng.choice(_NAMES)}@{rng.choice(_HOSTS)}"),
        (
            "{} is my card",
            "card",
            "card",
            ".".join(re.findall("....", visa)),
        ),
        (
            f"Upgraded to {rng.randint(11, 20)}.{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(1, 9)} at night",
            "",
            "",
            "",
        ),
        (f"Order {sixteen}{next(c for c in _DIGITS if luhn(sixteen + c))} shipped", "", "", ""),
        (f"Part {d('3')}{d('99')}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)} in stock", "", "", ""),
        (f"{rng.randint(200, 899)}-{rng.randint(200, 899)}-{d('9999')} is the article", "", "", ""),
        (f"Lot {rng.randint(200, 899)}-{rng.randint(200, 899)}-{d('9999')}", "", "", ""),
    ]


def _negatives(rng: random.Random) -> list[str]:
    """What detectors take for personal data and is none."""
    d = lambda pattern: _draw(rng, pattern)  # noqa: E731
    isbn = "978" + d("999999999")
    isbn += str(-sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(isbn)) % 10)
    return [
        f"Upgrade to version {rng.randint(1, 20)}.{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 99)} first.",
        f"On {rng.randint(1, 28):02}.{rng.randint(1, 12):02}.{rng.randint(1950, 2030)} at 12:{d('19')}:30 it began.",
        f"ISBN {isbn[:3]}-{isbn[3]}-{isbn[4:6]}-{isbn[6:12]}-{isbn[12]}, {rng.randint(90, 900)} pages",
        f"ISBN {isbn}",
        f"md5 {rng.getrandbits(128):032x} of the file",
        f"commit {rng.getrandbits(160):040x}",
        f"id {rng.getrandbits(32):08x}-{d('9999')}-4{d('999')}-a{d('999')}-{rng.getrandbits(48):012x}",
        f"The router is at 192.168.{rng.randint(0, 255)}.{rng.randint(1, 254)} as always.",
        f"Mask 255.255.{rng.choice([0, 128, 192, 240])}.0, documentation 192.0.2.{rng.randint(1, 254)}",
        f"write to {rng.choice(_NAMES)}@example.com for a sample",
        f"icon-{rng.choice(_NAMES)}@{rng.randint(2, 3)}x.png",
        f"Order {d('99999999999')} shipped, invoice {d('9999999')}",
        f"pi is 3.{d('999999999999999')}",
        f"{rng.randint(1, 99)},{d('999')},{d('999')} people in {rng.randint(1800, 2030)}",
        f"doi:10.{d('9999')}/{d('aaaa')}.{d('99999999')}",
        f"arXiv:{d('99')}0{rng.randint(1, 9)}.{d('99999')}",
        f"Use std::vector<int>::iterator, line {rng.randint(1, 900)}:12:7",
        f"MAC 00:1b:{rng.getrandbits(8):02x}:{rng.getrandbits(8):02x}:{rng.getrandbits(8):02x}:5e",
        "password = 'changeme-please-now'",
        f"call 555-01{d('99')} in the film, (212) 555-01{d('99')}",
        f"from {rng.randint(1900, 1999)}-{rng.randint(2000, 2030)} {rng.randint(100, 999)}-page edition",
        f"{rng.uniform(-90, 90):.6f}, {rng.uniform(-180, 180):.6f} on the map",
        f"part no. {d('999')}-{d('99999')}-{d('99')}",
        f"timestamp 17{d('99999999999')}",
        "AKIAIOSFODNN7EXAMPLE is what the manual prints",
    ]


def measure(texts: Sequence[tuple[str, list[Found]]]) -> dict[str, dict[str, int]]:
    """Of each kind, and of "all": values found at exactly their place (hits), those that are there, those reported."""
    counts: dict[str, Counter[str]] = {}
    for text, known in texts:
        found = find_personal(text)
        places = {(one.kind, one.start, one.end) for one in known}
        for one in found:
            for kind in (one.kind, "all"):
                counts.setdefault(kind, Counter())["reported"] += 1
                counts[kind]["hits"] += (one.kind, one.start, one.end) in places
        for one in known:
            for kind in (one.kind, "all"):
                counts.setdefault(kind, Counter())["there"] += 1
    return {kind: dict(count) for kind, count in sorted(counts.items())}


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    sample = build(seed)
    print(f"seed {seed}; shares with 95% intervals (Wilson) and what they are of")
    for title, texts in (("texts", sample.texts), ("hard texts", sample.hard)):
        print(f"{len(texts):,} {title}")
        for kind, count in measure(texts).items():
            said = []
            for name, of in (("precision", count.get("reported", 0)), ("recall", count.get("there", 0))):
                hits = count.get("hits", 0)
                low, high = wilson(hits, of)
                share = f"{hits / of:.4f} ({low:.4f} to {high:.4f})" if of else "unknown"
                said.append(f"{name} {share} of {of:,}")
            print(f"  {kind:12} {', '.join(said)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
