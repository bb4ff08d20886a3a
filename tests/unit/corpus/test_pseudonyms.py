"""Pseudonyms: consistent, of the same shape, and never a value that could be somebody's."""

from __future__ import annotations

import ipaddress
import re

import pytest

from bloomery.corpus.identifiers import NATIONAL, card, luhn, mod97
from bloomery.corpus.personal import find_personal
from bloomery.corpus.personal_sample import build
from bloomery.corpus.pseudonyms import Pseudonyms

ONE = Pseudonyms(1)


def _shape(text: str) -> str:
    return re.sub("[A-Z]", "A", re.sub("[a-z]", "a", re.sub("[0-9]", "9", text)))


def test_the_same_value_gets_the_same_stand_in_and_another_seed_another():
    for kind, what, value in [
        ("email", "", "Jo.Doe@acme.io"),
        ("phone", "", "+44 20 7946 0958"),
        ("national_id", "us_ssn", "536-90-4399"),
    ]:
        assert ONE.of(kind, what, value) == Pseudonyms(1).of(kind, what, value) != Pseudonyms(2).of(kind, what, value)
    assert ONE.of("email", "", "jo.doe@ACME.io") == ONE.of("email", "", "JO.DOE@acme.io")


def test_shapes_stay():
    for kind, what, value in [
        ("phone", "", "(415) 867-5309"),
        ("card", "", "4111 1111-11111111"),
        ("iban", "", "DE89 3704 0044 0532 0130 00"),
        ("national_id", "es_dni", "12345678Z"),
        ("secret", "github", "ghp_Ab1" + "x" * 33),
    ]:
        assert _shape(ONE.of(kind, what, value)) == _shape(value)
    assert _shape(ONE.of("email", "", "jo.doe7@acme.io")).split("@")[0] == "aa.aaa9"


def test_stand_ins_are_reserved_values():
    assert ONE.of("email", "", "a@b.io").split("@")[1] in ("example.com", "example.org", "example.net")
    for value, nets in [
        ("8.8.8.8", "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24"),
        ("2606:4700::1111", "2001:db8::/32"),
    ]:
        assert any(ipaddress.ip_address(ONE.of("ip", "", value)) in ipaddress.ip_network(net) for net in nets.split())
    assert "555-01" in ONE.of("phone", "", "(415) 867-5309")
    number = re.sub(r"\D", "", ONE.of("card", "", "4111 1111 1111 1111"))
    assert luhn(number) and number.startswith("9999") and not card(number)
    account = "".join(ONE.of("iban", "", "DE89 3704 0044 0532 0130 00").split())
    assert account.startswith("XX") and mod97(account[4:] + account[:4]) == 1


def test_no_stand_in_for_a_person_is_one():
    for text, known in build(3, each=3).texts:
        for one in known:
            made = ONE.of(one.kind, one.what, text[one.start : one.end])
            if one.kind == "national_id":
                assert not NATIONAL[one.what](made)
            if one.kind in ("email", "ip", "card", "iban", "national_id"):
                assert not find_personal(f"x {made} y", [one.kind])


@pytest.mark.parametrize("value", ["+1 (415) 867-5309", "0", "+999", "Ä@x.io"])
def test_odd_values_do_not_break(value: str):
    assert ONE.of("phone" if "@" not in value else "email", "", value)


@pytest.mark.parametrize("value", ["٢٣٢٠٦٥١١١", "٩٤٤٣١٦٣٩١٧١"])
def test_digits_of_other_scripts_are_replaced(value: str):
    for kind, what in (("national_id", "nl_bsn"), ("phone", ""), ("card", "")):
        made = ONE.of(kind, what, value)
        assert made and not set(made) & set(value)
