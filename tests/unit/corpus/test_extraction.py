"""Extraction: what kind of page it is, by its type, else by its first bytes."""

from __future__ import annotations

import random

import pytest

from bloomery.corpus.extraction import PageSource, extract_page, kind_of_page
from bloomery.corpus.guard import Refused


@pytest.mark.parametrize(
    ("data", "content_type", "kind"),
    [
        (b"x", "text/html", "html"),
        (b"x", "Application/XHTML+XML; charset=utf-8", "html"),
        (b"x", "application/pdf", "pdf"),
        (b"%PDF-1.4", "application/octet-stream", "pdf"),
        (b"\n <!DOCTYPE HTML><p>", "", "html"),
        (b"<html>", "text/plain", "html"),
        (b"words", "text/plain", "text"),
        (b"\0\1", "text/plain", ""),
        (b"words", "", ""),
        (b"<html>", "image/png", ""),
    ],
)
def test_kinds(data: bytes, content_type: str, kind: str):
    assert kind_of_page(PageSource(data, content_type=content_type)) == kind


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [("text/html; charset=UTF-8", "UTF-8"), ('text/html;CHARSET="x"; a=b', "x"), ("text/html", ""), ("", "")],
)
def test_the_charset_of_a_type(content_type: str, charset: str):
    assert PageSource(b"", content_type=content_type).charset == charset


def test_plain_text_is_decoded_and_nothing_is_refused():
    page = extract_page(PageSource("déjà".encode("cp1252"), content_type="text/plain; charset=latin1"), how="fast")
    assert (page.text, page.metadata) == ("déjà", {"encoding": "cp1252"})
    for data, content_type, reason in ((b" \n", "text/plain", "no_text"), (b"x", "image/png", "content_type")):
        with pytest.raises(Refused) as caught:
            extract_page(PageSource(data, content_type=content_type), how="fast")
        assert (caught.value.reason, caught.value.broken) == (reason, False)


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=latin1"])
@pytest.mark.parametrize("data", [bytes(5000), random.Random(3).randbytes(5000), b"<p>" + bytes(range(32)) * 50])
def test_a_page_of_bytes_that_are_no_text_is_refused(data: bytes, content_type: str):
    with pytest.raises(Refused) as caught:
        extract_page(PageSource(data, content_type=content_type), how="fast")
    assert caught.value.reason == "binary"


def test_a_page_with_a_few_broken_characters_is_kept():
    data = b"<p>" + b"words of a page " * 20 + b"\xff\0</p>"
    page = extract_page(PageSource(data, content_type="text/html"), how="fast")
    assert page.text.count("words of a page") == 20 and "\ufffd" in page.text
