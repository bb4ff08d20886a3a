"""Identifiers: published examples pass, and every change of one digit fails where the check promises that."""

from __future__ import annotations

import pytest

from bloomery.corpus.identifiers import NATIONAL, card, iban, luhn, mod97, verhoeff

# Examples that authorities or standards print.
EXAMPLES = {
    "us_ssn": ["536-90-4399"],
    "uk_ni": ["AB 12 34 56 C"],
    "de_tax": ["86095742719", "47 036 892 816"],
    "fr_insee": ["2 55 08 14 168 025 38"],
    "es_dni": ["12345678Z", "X1234567L", "X-2482300-W"],
    "it_fiscal": ["RSSMRA85T10A562S", "MRTMTT91D08F205J"],
    "in_aadhaar": ["2341 2341 2346"],
    "br_cpf": ["529.982.247-25", "111.444.777-35"],
    "nl_bsn": ["111222333"],
    "pl_pesel": ["44051401359"],
    "ca_sin": ["130 692 544"],
}


@pytest.mark.parametrize("what", NATIONAL)
def test_examples_pass(what: str):
    assert all(map(NATIONAL[what], EXAMPLES[what]))


@pytest.mark.parametrize("what", ["de_tax", "fr_insee", "in_aadhaar", "br_cpf", "nl_bsn", "ca_sin"])
def test_one_wrong_digit_is_found(what: str):
    """These checks find every wrong digit, but CPF's and the test of eleven, which miss none of one digit either."""
    value = EXAMPLES[what][0]
    for place, c in enumerate(value):
        if c.isdigit():
            wrong = [value[:place] + d + value[place + 1 :] for d in "0123456789" if d != c]
            assert not any(map(NATIONAL[what], wrong)), place


def test_cards_by_issuer_and_luhn():
    for good in (
        "4111 1111 1111 1111",
        "5555555555554444",
        "378282246310005",
        "6011-1111-1111-1117",
        "3530111333300000",
    ):
        assert card(good)
    for bad in ("4111111111111112", "9999999999999995", "0000000000000000", "41111111111111"):
        assert not card(bad)
    assert luhn("79927398713") and not luhn("79927398710")


def test_ibans_of_the_registry():
    for good in (
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "FR1420041010050500013M02606",
        "NO9386011117947",
    ):
        assert iban(good)
    assert not iban("GB82 WEST 1234 5698 7654 33") and not iban("XX82 WEST 1234 5698 7654 32")
    assert mod97("794") == 794 % 97


def test_verhoeff_finds_swapped_neighbours():
    assert verhoeff("2363") and verhoeff("123451")
    value = "234123412346"
    for place in range(len(value) - 1):
        a, b = value[place], value[place + 1]
        if a != b:
            assert not verhoeff(value[:place] + b + a + value[place + 2 :])


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("us_ssn", "000-12-3456"),
        ("us_ssn", "666-12-3456"),
        ("us_ssn", "912-12-3456"),
        ("us_ssn", "123-00-3456"),
        ("us_ssn", "078-05-1120"),
        ("uk_ni", "BG123456A"),
        ("uk_ni", "AB123456E"),
        ("de_tax", "12345678901"),
        ("br_cpf", "111.111.111-11"),
        ("in_aadhaar", "1234 1234 1234"),
        ("fr_insee", "9 55 08 14 168 025 38"),
    ],
)
def test_numbers_that_are_never_given_out(what: str, value: str):
    assert not NATIONAL[what](value)
