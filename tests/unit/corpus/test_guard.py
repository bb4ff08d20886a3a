"""Guards: whatever a library raises about a page is a refusal of that page; ours goes through."""

from __future__ import annotations

import pytest

from bloomery.core.errors import MissingExtraError
from bloomery.corpus.guard import Guard, Page, Refused


def _raising(error: BaseException):
    def extract() -> Page:
        raise error

    return extract


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("odd"), "extraction_failed"),
        (RecursionError(), "too_deep"),
        (MemoryError(), "too_large"),
        (Refused("no_text"), "no_text"),
    ],
)
def test_what_a_library_raises_is_a_refusal(error: BaseException, reason: str):
    with pytest.raises(Refused) as caught:
        Guard().run("page", _raising(error))
    assert caught.value.reason == reason


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ImportError()])
def test_what_is_not_the_pages_fault_goes_through(error: BaseException):
    with pytest.raises(type(error)):
        Guard().run("page", _raising(error))


def test_a_missing_library_is_not_the_pages_fault():
    with pytest.raises(MissingExtraError, match="fastwarc"):
        Guard().run("page", _raising(MissingExtraError("fastwarc", "web", "reading")))


def test_a_page_is_handed_on():
    page = Page("text", {"title": "t"})
    assert Guard().run("page", lambda: page) is page
