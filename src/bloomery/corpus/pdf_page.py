"""PDF pages: their text in reading order as pdfium has it, with title, author, date, language and links.

This module does not know where PDFs come from. pdfium is C++ that reads hostile files: run it behind a guard.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any
from urllib.parse import urlsplit

from bloomery.core.errors import MissingExtraError
from bloomery.corpus.document import readable
from bloomery.corpus.guard import Page, Refused

MAX_PAGES = 5000
_MAX_CHARACTERS = 16 * 1024 * 1024
_MAX_LINKS = 100
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?")


def pdf_page(data: bytes) -> Page:
    """The text of a PDF, a blank line between pages. Refused if it is damaged, encrypted or too long."""
    try:
        import pypdfium2
    except ImportError:
        raise MissingExtraError("pypdfium2", "web", "reading PDF") from None
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise Refused("encrypted" if locked else "damaged_pdf", str(error), broken=not locked) from error
    try:
        return _read(document, pypdfium2)
    finally:
        document.close()


def _read(document: Any, pypdfium2: Any) -> Page:
    pages = len(document)
    if pages > MAX_PAGES:
        raise Refused("too_large", f"{pages:,} pages", broken=True)
    texts: list[str] = []
    links: dict[str, None] = {}
    size = broken = 0
    for number in range(pages):
        try:
            page = document[number]
            try:
                shown = page.get_textpage()
                try:
                    texts.append(_clean(shown.get_text_range()))
                    _add_links(shown, links, pypdfium2.raw)
                finally:
                    shown.close()
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            broken += 1
            continue
        size += len(texts[-1])
        if size > _MAX_CHARACTERS:
            raise Refused("document_too_large", f"more than {_MAX_CHARACTERS:,} characters", broken=True)
    if broken and broken == pages:
        raise Refused("damaged_pdf", "no page can be read", broken=True)
    known = _known(document, pypdfium2.raw) | {"pages": pages, "links": list(links), "broken_pages": broken}
    text = "\n\n".join(text for text in texts if text)
    return Page(text, {key: value for key, value in known.items() if value})


def _clean(text: str) -> str:
    """Line ends as we have them; pdfium's mark of a hyphen at a line's end (U+FFFE) joins the word."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\ufffe\n", "").replace("\ufffe", "").replace("\x02\n", "").replace("\x02", "")
    return readable(text).replace("\0", "\ufffd").strip()


def _known(document: Any, raw: Any) -> dict[str, Any]:
    told = {key.lower(): readable(str(value)).strip()[:500] for key, value in document.get_metadata_dict().items()}
    date = _DATE.match(told.get("creationdate", ""))
    known: dict[str, Any] = {"title": told.get("title", ""), "author": told.get("author", "")}
    known["date"] = "-".join(part for part in date.groups() if part) if date else ""
    size = raw.FPDFCatalog_GetLanguage(document, None, 0)
    if 2 < size <= 200:
        buffer = (ctypes.c_ushort * (size // 2))()
        raw.FPDFCatalog_GetLanguage(document, buffer, size)
        known["language"] = readable(bytes(buffer).decode("utf-16-le", "replace").rstrip("\0"))[:35]
    return known


def _add_links(shown: Any, links: dict[str, None], raw: Any) -> None:
    """The addresses that pdfium finds in a page's text."""
    if len(links) >= _MAX_LINKS:
        return
    found = raw.FPDFLink_LoadWebLinks(shown)
    try:
        for number in range(min(raw.FPDFLink_CountWebLinks(found), _MAX_LINKS)):
            size = raw.FPDFLink_GetURL(found, number, None, 0)
            if not 1 < size <= 2000:
                continue
            buffer = (ctypes.c_ushort * size)()
            raw.FPDFLink_GetURL(found, number, buffer, size)
            url = readable(bytes(buffer).decode("utf-16-le", "replace").rstrip("\0"))
            try:
                if urlsplit(url).scheme in ("http", "https") and len(links) < _MAX_LINKS:
                    links[url] = None
            except ValueError:
                continue
    finally:
        raw.FPDFLink_CloseWebLinks(found)
