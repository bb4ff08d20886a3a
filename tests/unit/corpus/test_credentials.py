"""Credentials: by prefix, structure and entropy; what manuals print is nobody's."""

from __future__ import annotations

import math
import random
import string

import pytest

from bloomery.corpus.credentials import credentials, entropy

RNG = random.Random(0)


def _random(length: int) -> str:
    return "".join(RNG.choices(string.ascii_letters + string.digits, k=length))


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("aws_access_key", "AKIA" + "Z7QW3RTY5UKP2SDF"),
        ("github", "ghp_" + _random(36)),
        ("openai", "sk-proj-" + _random(40)),
        ("slack", "xoxb-738204915562-" + _random(24)),
        ("google", "AIza" + _random(35)),
        ("hugging_face", "hf_" + "aBcD" + "".join(RNG.choices(string.ascii_letters, k=30))),
        ("stripe", "sk_live_" + _random(24)),
        ("private_key", f"-----BEGIN EC PRIVATE KEY-----\n{_random(64)}\n-----END EC PRIVATE KEY-----"),
        ("jwt", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + _random(43)),
    ],
)
def test_found_at_their_place(what: str, value: str):
    text = f"first {value} last"
    assert (what, 6, 6 + len(value)) in list(credentials(text))


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "x" * 36,
        "sk-your-api-key-goes-here-please",
        "task-force-of-the-united-nations-here",
        "password: 'changeme-example-now'",
        "eyJub3RqdW5r.eyJub3RqdW5r.aaaaaaaaaaaaaaaaaaaaaaaa",
        "https://host:8080/path@x",
        "-----BEGIN PUBLIC KEY-----\nabcdefghijklmnopqrstuvwxyz\n-----END PUBLIC KEY-----",
        "token = 'the quick brown fox'",
    ],
)
def test_not_found(text: str):
    assert list(credentials(text)) == []


def test_passwords_in_urls_and_assignments():
    assert list(credentials("postgres://me:Xk29vQp7@db.io/x")) == [("url_password", 14, 22)]
    text = 'api_key = "q8Zr2Lw5Tn7Vb4Ky"'
    assert list(credentials(text)) == [("assigned", 11, 27)]


def test_entropy_is_shannons():
    assert entropy("aabb") == 1 and entropy("abcdefgh") == 3 and entropy("") == 0
    assert entropy("aab") == pytest.approx(-(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3)))


def test_long_hostile_texts_take_no_time():
    for text in ("eyJ" * 50_000, "://" * 50_000, "-----BEGIN PRIVATE KEY-----" * 5_000, "password=" * 20_000):
        assert list(credentials(text)) == []
