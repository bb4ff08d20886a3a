"""URLs of one page, and of different ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus.lists import normal_url
from bloomery.corpus.url import page_of


@pytest.mark.parametrize(
    "url",
    [
        "https://www.Example.org/a/b/",
        "http://example.org/a/b#part",
        "example.org:80/a/b?utm_source=x&UTM_campaign=y",
        "https://example.org:443/a/b/?fbclid=1",
        " HTTPS://example.org./a/b?ref=front ",
    ],
)
def test_these_are_one_page(url: str):
    assert page_of(url) == "example.org/a/b"


def test_these_are_different_pages():
    urls = [
        "a.org",
        "b.org",
        "a.org/A",
        "a.org/a",
        "a.org/a?id=1",
        "a.org/a?id=2&utm_medium=x",
        "a.org:8080",
        "a.org/#!x",
    ]
    assert len({page_of(url) for url in urls}) == len(urls)
    assert page_of("a.org/?id=1&utm_id=2&n=3") == "a.org?id=1&n=3"
    assert page_of("a.org/?reference=1&feedback=2") == "a.org?reference=1&feedback=2"


@pytest.mark.parametrize("url", ["", "   ", "http://", "http://[::1", "http://a.org:port/", "file:///etc/x"])
def test_what_is_no_url_of_a_page_is_none(url: str):
    assert page_of(url) == ""


@given(st.text(max_size=40))
def test_any_text_is_answered(text: str):
    page_of(text)
    page_of("http://" + text)


def test_what_c4_takes_for_one_page_is_one_here():
    urls = ["http://a.org/x", "https://www.a.org/x/", "https://a.org/x?utm_source=1", "http://a.org/x?ref=2"]
    assert len({normal_url(url) for url in urls}) == len({page_of(url) for url in urls}) == 1
