"""Extraction: a page's bytes in, its text and what is known about it out, by what kind of page it is.

`fast` is resiliparse, `quality` is trafilatura; PDF is pdfium's in both. This module decides the kind, and the limits
on size and depth; `html_page` and `pdf_page` do the work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bloomery.corpus.guard import Page, Refused
from bloomery.corpus.html_page import decode_page, html_page
from bloomery.corpus.pdf_page import pdf_page

Extract = Literal["fast", "headings", "quality"]
_HTML = ("text/html", "application/xhtml+xml", "application/xhtml")
_UNKNOWN = ("", "application/octet-stream", "binary/octet-stream", "no-type", "unknown", "text/plain")
_FIRST_BYTES = 1024
_FOREIGN = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
"""What stands where bytes are no text, in whatever encoding: control characters and the mark of replacement."""
_MAX_FOREIGN_SHARE = 0.1


@dataclass(frozen=True)
class PageSource:
    """A page as it was found: `content_type` as its server or archive said, parameters and all."""

    data: bytes
    content_type: str = ""
    url: str = ""

    @property
    def media_type(self) -> str:
        return self.content_type.split(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The encoding that the content type names, or ""."""
        for parameter in self.content_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'")
        return ""


def extract_page(source: PageSource, *, how: Extract) -> Page:
    """The page's text and metadata; Refused if it is not text, or none is left of it.

    MissingExtraError without the extra "web".
    """
    kind = kind_of_page(source)
    if kind == "pdf":
        page = pdf_page(source.data)
    elif kind == "html":
        page = html_page(source.data, charset=source.charset, url=source.url, how=how)
    elif kind == "text":
        text, encoding = decode_page(source.data, source.charset, html=False)
        page = Page(text, {"encoding": encoding} if encoding != "utf-8" else {})
    else:
        raise Refused("content_type", (source.media_type or "unknown")[:100])
    if kind != "pdf" and (foreign := len(_FOREIGN.findall(page.text))) > _MAX_FOREIGN_SHARE * len(page.text):
        raise Refused("binary", f"{foreign:,} of {len(page.text):,} characters are no text")
    if not page.text.strip():
        raise Refused("no_text", "nothing is left after extraction")
    return page


def kind_of_page(source: PageSource) -> str:
    """html, pdf, text, or "" for what holds no text. What is called plain or nothing in particular is looked into."""
    media = source.media_type
    if media in _HTML:
        return "html"
    if media in ("application/pdf", "application/x-pdf"):
        return "pdf"
    if media not in _UNKNOWN:
        return ""
    head = source.data[:_FIRST_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head[:64].lower().startswith((b"<!doctype html", b"<html")):
        return "html"
    return "text" if media == "text/plain" and b"\0" not in head else ""
