"""Identifiers: numbers that carry a check, and the checks. This module does not know texts."""

from __future__ import annotations

import re
from collections.abc import Callable

_DIGITS = re.compile(r"\D")


def digits_of(text: str) -> str:
    """The digits in a text."""
    return _DIGITS.sub("", text)


def luhn(digits: str) -> bool:
    """The check of payment cards and Canadian SINs (ISO/IEC 7812-1, annex B)."""
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def card(text: str) -> bool:
    """A payment card by issuer, length and Luhn digit."""
    d = digits_of(text)
    n, two, four = len(d), int(d[:2] or 0), int(d[:4] or 0)
    issued = (
        (d[0] == "4" and n in (13, 16, 19))
        or (n == 16 and (51 <= two <= 55 or 2221 <= four <= 2720 or 3528 <= four <= 3589))
        or (n == 15 and two in (34, 37))
        or (n == 14 and (300 <= int(d[:3]) <= 305 or two in (36, 38)))
        or (n == 16 and (four == 6011 or two == 65 or 644 <= int(d[:3]) <= 649))
        or (16 <= n <= 19 and two == 62)
    )
    return bool(issued) and luhn(d) and len(set(d)) > 1


# Characters of an IBAN by country (SWIFT's registry).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19,
    "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def mod97(text: str) -> int:
    """The remainder modulo 97 of a text whose letters are 10 to 35 (ISO 7064)."""
    return int("".join(str(int(c, 36)) for c in text)) % 97


def iban(text: str) -> bool:
    """An IBAN of a country that has them, of its length, with its check digits (ISO 13616)."""
    plain = "".join(text.split()).upper()
    return IBAN_LENGTHS.get(plain[:2]) == len(plain) and mod97(plain[4:] + plain[:4]) == 1


def us_ssn(text: str) -> bool:
    """A US social security number by the blocks that are given out; two that were published are nobody's (SSA)."""
    d = digits_of(text)
    area = int(d[:3])
    spared = area in (0, 666) or area >= 900 or d[3:5] == "00" or d[5:] == "0000"
    return len(d) == 9 and not spared and d not in ("078051120", "219099999", "123456789")


_NI = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]\Z")


def uk_ni(text: str) -> bool:
    """A UK national insurance number by its letters (HMRC, NIM39110)."""
    return bool(_NI.match("".join(text.split()).upper()))


def de_tax(text: str) -> bool:
    """A German tax id: one digit of the first ten occurs two or three times; ISO 7064 modulo 11, 10 (BZSt)."""
    d = digits_of(text)
    if len(d) != 11 or d[0] == "0":
        return False
    if sorted(map(d[:10].count, set(d[:10])))[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for c in d[:10]:
        product = ((int(c) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(d[10])


def fr_insee(text: str) -> bool:
    """A French social security number with its key, Corsica's departments included (INSEE)."""
    plain = "".join(text.split()).upper()
    if not re.match(r"[1-478]\d{2}(?:0[1-9]|1[0-2]|[2-9]\d)(?:\d{2}|2[AB])\d{8}\Z", plain):
        return False
    number = int(plain[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(plain[13:])


def es_dni(text: str) -> bool:
    """A Spanish DNI or NIE by its letter (Real Decreto 1553/2005)."""
    plain = re.sub(r"[\s.-]", "", text).upper()
    if not re.match(r"(?:\d{8}|[XYZ]\d{7})[A-Z]\Z", plain):
        return False
    number = int(plain[:-1].translate(str.maketrans("XYZ", "012")))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == plain[-1]


_ODD = dict(zip("0123456789ABCDEFGHIJ", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2, strict=True)) | dict(
    zip("KLMNOPQRSTUVWXYZ", (2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23), strict=True)
)


def it_fiscal(text: str) -> bool:
    """An Italian codice fiscale by its last letter (Decreto 23 dicembre 1976)."""
    plain = text.upper()
    if not re.match(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\Z", plain):
        return False
    even = sum(int(c) if c.isdigit() else ord(c) - 65 for c in plain[1:15:2])
    return chr(65 + (sum(_ODD[c] for c in plain[:15:2]) + even) % 26) == plain[-1]


def _dihedral(a: int, b: int) -> int:
    """The product of two elements of the dihedral group of ten elements: rotations 0 to 4, reflections 5 to 9."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


def verhoeff(digits: str) -> bool:
    """The check of Verhoeff (1969), of which Aadhaar numbers have one."""
    permuted, total = list(range(10)), 0
    for c in reversed(digits):
        total = _dihedral(total, permuted[int(c)])
        permuted = [(1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[p] for p in permuted]
    return total == 0


def in_aadhaar(text: str) -> bool:
    """An Indian Aadhaar number by its Verhoeff digit (UIDAI)."""
    d = digits_of(text)
    return len(d) == 12 and d[0] in "23456789" and d != d[::-1] and verhoeff(d)


def _mod11(digits: str, weights: range) -> str:
    rest = sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11
    return str(11 - rest) if rest > 1 else "0"


def br_cpf(text: str) -> bool:
    """A Brazilian CPF by its two check digits (Receita Federal)."""
    d = digits_of(text)
    if len(d) != 11 or len(set(d)) == 1:
        return False
    return _mod11(d[:9], range(10, 1, -1)) == d[9] and _mod11(d[:10], range(11, 1, -1)) == d[10]


def nl_bsn(text: str) -> bool:
    """A Dutch BSN by the test of eleven."""
    d = digits_of(text)
    weighted = sum(int(c) * w for c, w in zip(d, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=False))
    return len(d) == 9 and d[0] + d[1] != "00" and weighted % 11 == 0


def pl_pesel(text: str) -> bool:
    """A Polish PESEL by its date and its check digit."""
    d = digits_of(text)
    if len(d) != 11 or not 1 <= int(d[2:4]) % 20 <= 12 or not 1 <= int(d[4:6]) <= 31:
        return False
    return sum(int(c) * w for c, w in zip(d, (1, 3, 7, 9) * 2 + (1, 3, 1), strict=True)) % 10 == 0


def ca_sin(text: str) -> bool:
    """A Canadian social insurance number by its Luhn digit; 0 and 8 do not begin one."""
    d = digits_of(text)
    return len(d) == 9 and d[0] not in "08" and luhn(d)


NATIONAL: dict[str, Callable[[str], bool]] = {
    "us_ssn": us_ssn,
    "uk_ni": uk_ni,
    "de_tax": de_tax,
    "fr_insee": fr_insee,
    "es_dni": es_dni,
    "it_fiscal": it_fiscal,
    "in_aadhaar": in_aadhaar,
    "br_cpf": br_cpf,
    "nl_bsn": nl_bsn,
    "pl_pesel": pl_pesel,
    "ca_sin": ca_sin,
}
