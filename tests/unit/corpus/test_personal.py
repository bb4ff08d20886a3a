"""Personal data: found at its place, left alone where it is none, dealt with as a config says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bloomery.corpus.document import Document
from bloomery.corpus.personal import PersonalTally, Scrubber, find_personal
from bloomery.corpus.personal_config import PersonalConfig
from bloomery.corpus.record import Record

TEXT = "Mail jo@acme.io or call (415) 867-5309; jo@acme.io again. Card 4111 1111 1111 1111, IP 8.8.8.8."


def _kinds(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find_personal(text)]


def test_what_is_found():
    assert _kinds(TEXT) == [
        ("email", "jo@acme.io"),
        ("phone", "(415) 867-5309"),
        ("email", "jo@acme.io"),
        ("card", "4111 1111 1111 1111"),
        ("ip", "8.8.8.8"),
    ]
    assert [one.kind for one in find_personal(TEXT, ["ip"])] == ["ip"]


@pytest.mark.parametrize(
    "text",
    [
        "version 10.2.14.3",
        "10.0.0.1 and 192.0.2.7",
        "logo@2x.png",
        "me@example.com",
        "std::vector<int>",
        "12:30:45",
        "ISBN 978-3-16-148410-0",
        "2001:db8::1",
        "fe80::1",
        "call 555-0123",
        "order no. 4111111111111111",
        "a@b",
        "@handle",
        "00:1b:44:11:3a:b7",
        "3.1415926535897932",
        "2021-03-04",
        "DE89 3704 0044 0532 0130 01",
        "section 4.1.2.3 of it",
    ],
)
def test_what_is_none(text: str):
    assert _kinds(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2606:4700:4700::1111 is up", "2606:4700:4700::1111"),
        ("an jörg@kontor.eu.", "jörg@kontor.eu"),
        ("IBAN: GB82 WEST 1234 5698 7654 32 at Acme", "GB82 WEST 1234 5698 7654 32"),
        ("IBAN GB82WEST12345698765432.", "GB82WEST12345698765432"),
        ("Tel.: 030 1234567", "030 1234567"),
        ("+49 (0)30 123456", "+49 (0)30 123456"),
        ("SSN 536904399", "536904399"),
    ],
)
def test_forms(text: str, value: str):
    assert [found for _, found in _kinds(text)] == [value]


def _scrub(config: PersonalConfig, *texts: str) -> tuple[list[Document], list[Record], PersonalTally]:
    scrubber, tally = Scrubber(config), PersonalTally(config)
    made = [scrubber.scrubbed(Record.of(Document.of(text, "s"))) for text in texts]
    for record in made:
        tally.add(record)
    kept = [record.document for record in made if record.kind == "document"]
    return kept, [record for record in made if record.kind == "taken"], tally


def test_masked_replaced_and_dropped():
    kept, dropped, tally = _scrub(PersonalConfig(email="replace", phone="mask"), TEXT, "nothing here")
    assert not dropped and kept[1].metadata == {}
    first, second = kept[0].text.split("Mail ")[1].split(" or")[0], kept[0].text.split("; ")[1].split(" again")[0]
    assert first == second != "jo@acme.io" and "<phone>" in kept[0].text and "8.8.8.8" in kept[0].text
    assert kept[0].metadata["personal_data"] == {"email": 2, "phone": 1}
    assert kept[0].id == Document.of(kept[0].text, "s").id
    assert tally.report() == {"email": {"action": "replace", "found": 2}, "phone": {"action": "mask", "found": 1}}
    kept, dropped, _ = _scrub(PersonalConfig(all="mask", card="drop"), TEXT, "jo@acme.io")
    assert [document.text for document in kept] == ["<email>"]
    assert (dropped[0].reason, dropped[0].detail) == ("personal_data", "1 card")
    assert dropped[0].more == {"score": 1, "threshold": 0} and not dropped[0].text


def test_hostile_texts_take_no_time():
    for text in (
        "a@" * 50_000,
        "1" * 200_000,
        "1 " * 100_000,
        "1:" * 50_000,
        "1.1.1." * 30_000,
        "DE89 " * 30_000,
        "+1" * 50_000,
        "a." * 50_000 + "@",
        "tel " * 30_000,
        "a@" + "b." * 50_000,
    ):
        found = find_personal(text)
        assert all(one.end <= other.start for one, other in pairwise(found))


@pytest.mark.parametrize(
    "text",
    ["-jo@acme.io", "jo@acme.io- thanks", "Contact...jo@acme.io", "_jo@acme.io_", "+jo@acme.io", "(jo@acme.io)"],
)
def test_marks_around_an_address_do_not_hide_it(text: str):
    (found,) = find_personal(text, ["email"])
    assert "jo@acme.io" in text[found.start : found.end]


def test_a_quoted_secret_goes_whole():
    secret = "ghp_" + "a1B2c3D4e5F6" * 3 + "/restOfSecret99"
    made, _, _ = _scrub(PersonalConfig(secret="mask"), f'password = "{secret}"')
    assert "restOfSecret99" not in made[0].text and "ghp_" not in made[0].text


def test_what_is_known_of_a_document_is_masked_too():
    document = Document.of(
        "Nobody here.", "a.jsonl:1", {"author": "jo@acme.io", "links": ["mailto:jo@acme.io"], "n": 1}
    )
    scrubber = Scrubber(PersonalConfig(email="mask"))
    made = scrubber.scrubbed(Record.of(document))
    assert "jo@acme.io" not in str(made.metadata) and made.metadata["n"] == 1
