"""Pseudonyms: the same stand-in for the same value, of the same shape, that is nobody's.

Mail goes to example domains (RFC 2606), addresses into the networks set aside for documentation (RFC 5737, 3849),
telephone numbers to 555-01xx or the country code 999, cards to issuer 9999, bank accounts to country XX, numbers of
persons to ones whose check fails. A stand-in is a keyed hash of the value, so it needs no table and no memory; small
ranges have few values, so two different addresses may get the same one. This module finds nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import string
from collections.abc import Iterator

from bloomery.corpus.identifiers import NATIONAL, luhn, mod97

_DOMAINS = ("example.com", "example.org", "example.net")
_NETWORKS = ("192.0.2.", "198.51.100.", "203.0.113.")


class Pseudonyms:
    """Stand-ins that depend on the seed alone."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(8, "little")

    def of(self, kind: str, what: str, value: str) -> str:
        """The stand-in for a value of a kind; `what` says more, such as the country of a number of a person."""
        if kind == "email":
            local, _, domain = value.rpartition("@")
            return f"{self._shaped(local.lower())}@{_DOMAINS[next(self._bytes(domain.lower())) % 3]}"
        if kind == "ip":
            return self._address(value)
        if kind == "phone":
            return self._phone(value)
        if kind == "card":
            plain = self._digits(re.sub(r"\D", "", value), "9999")
            last = next(d for d in string.digits if luhn(plain[:-1] + d))
            return _filled(value, plain[:-1] + last)
        if kind == "iban":
            plain = "".join(value.split()).upper()
            body = self._shaped(plain[4:])
            return _filled(value, f"XX{98 - mod97(body + 'XX00'):02}{body}", spaces_only=True)
        if kind == "national_id":
            return self._person(what, value)
        return self._secret(value)

    def _bytes(self, value: str) -> Iterator[int]:
        block = 0
        while True:
            data = value.encode("utf-8", "surrogatepass") + block.to_bytes(4, "little")
            yield from hashlib.blake2b(data, key=self._key, digest_size=64).digest()
            block += 1

    def _shaped(self, value: str, salt: str = "") -> str:
        """Digits for digits, letters for letters of the same case, everything else as it is."""
        draw = self._bytes(salt + value)
        shaped = []
        for c in value:
            kind = next((k for k in (string.digits, string.ascii_lowercase, string.ascii_uppercase) if c in k), "")
            if not kind and c.isdecimal():  # digits of other scripts
                kind = string.digits
            if not kind and c.isalpha():
                kind = string.ascii_uppercase if c.isupper() else string.ascii_lowercase
            shaped.append(kind[next(draw) % len(kind)] if kind else c)
        return "".join(shaped)

    def _digits(self, digits: str, first: str) -> str:
        return first + self._shaped(digits)[len(first) :]

    def _address(self, value: str) -> str:
        draw = self._bytes(value)
        if ":" not in value:
            return _NETWORKS[next(draw) % 3] + str(1 + next(draw) % 254)
        host = int.from_bytes(bytes(next(draw) for _ in range(8)), "big")
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) | host))

    def _phone(self, value: str) -> str:
        digits = re.sub(r"\D", "", value)
        if value.lstrip().startswith("+") and not (digits[0] == "1" and len(digits) == 11):
            return _filled(value, self._digits(digits, "999"))
        if len(digits) in (10, 11) and digits[-10] in "23456789":
            tail = digits[:-7] + "55501" + self._shaped(digits)[-2:]
            return _filled(value, tail)
        return _filled(value, self._digits(digits, "000"))

    def _person(self, what: str, value: str) -> str:
        if what == "us_ssn":
            return "666" + self._shaped(value)[3:]
        if what == "uk_ni":
            return "ZZ" + self._shaped(value)[2:]
        for attempt in range(64):
            made = self._shaped(value, f"{attempt}:" if attempt else "")
            if not NATIONAL[what](made):
                return made
        raise AssertionError("no identifier's check passes for every number")

    def _secret(self, value: str) -> str:
        """Prefixes by which a token is known stay, so that what is said of it still makes sense."""
        known = re.match(r"-----BEGIN [A-Z0-9 ]+-----|[A-Za-z]{2,12}[_-](?:[a-z]{3,8}-)?|AKIA|ASIA|AIza|eyJ", value)
        start = known.end() if known else 0
        end = value.rfind("-----END") if value.startswith("-----BEGIN") else len(value)
        return value[:start] + self._shaped(value)[start:end] + value[end:]


def _filled(value: str, characters: str, *, spaces_only: bool = False) -> str:
    """The characters in the places that digits (or all but white space) have in the value."""
    rest = iter(characters)
    return "".join(next(rest) if (not c.isspace() if spaces_only else c.isdigit()) else c for c in value)
