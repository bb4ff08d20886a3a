"""HTML pages: their encoding, their main text, title, date, language and outbound links.

The encoding is that of the byte-order mark, else the HTTP header, else the page's own meta element, else detected. The
`fast` text is resiliparse's, the `quality` text trafilatura's, as these libraries give it; `headings` is the fast one
with Markdown's marks before the page's headings. What else is known comes from one parse by lexbor (and, with quality,
from trafilatura's metadata). This module does not know where pages come from.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from bloomery.core.errors import MissingExtraError
from bloomery.corpus.document import readable
from bloomery.corpus.guard import Page, Refused

MAX_DEPTH = 1000
"""Elements within elements; extraction is quadratic in it, and browsers stop at 512."""
_MAX_LINKS, _MAX_ANCHORS, _MAX_LINK_CHARACTERS = 100, 2000, 2000
_MAX_TITLE_CHARACTERS = 500
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta[^>]{1,300}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_.:-]{2,40})", re.IGNORECASE)
_META_BYTES = 4096
_MAX_INVALID_SHARE = 0.01
_DATE = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d")
_DATES = (
    'meta[property="article:published_time"]',
    'meta[itemprop="datePublished"]',
    'meta[name="date"], meta[name="pubdate"], meta[name="dc.date"], meta[name="DC.date.issued"]',
    "time[datetime]",
)
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements without content, or whose end may be left out: they nest less than their tags say.
_FLAT = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option".split()
)


def html_page(data: bytes, *, charset: str, url: str, how: Literal["fast", "headings", "quality"]) -> Page:
    """The page's text and title, date, language, links and encoding. Refused beyond MAX_DEPTH."""
    _check_depth(data)
    text, encoding = decode_page(data, charset, html=True)
    tree = _parse(text)
    known = {"title": _title(tree), "language": _language(tree), "date": _date(tree), "links": _links(tree, url)}
    if how == "quality":
        found, more = _quality(text, url)
        known |= {key: value for key, value in more.items() if value}
    else:
        if how == "headings":
            _mark_headings(tree)
        found = _fast(tree)
    if encoding != "utf-8":
        known["encoding"] = encoding
    return Page(readable(found), {key: value for key, value in known.items() if value})


def decode_page(data: bytes, charset: str, *, html: bool) -> tuple[str, str]:
    """(text, name of its encoding): of the first in the standard's order that decodes all but 1% of the characters.

    What is invalid in it becomes U+FFFD; a mark is taken off.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _clean(data[len(mark) :].decode(name, "replace")), name
    library = _encodings()
    meta = _META.search(data[:_META_BYTES]) if html else None
    stated = (charset, meta[1].decode("ascii") if meta else "", "utf-8")
    for label in stated:
        name = library.map_encoding_to_html5(label, fallback_utf8=False) if label else None
        if name and (text := _decoded(data, name)) is not None:
            return _clean(text), codecs.lookup(name).name
    name = library.detect_encoding(data, from_html_meta=False)
    text = library.bytes_to_str(data, name, errors="replace", fallback_encodings=())
    return _clean(text), codecs.lookup(name).name


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding, "replace")
    except LookupError:  # one that browsers know and Python does not
        return None
    return text if text.count("\ufffd") <= _MAX_INVALID_SHARE * len(text) else None


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd")


def _encodings() -> Any:
    try:
        from resiliparse.parse import encoding
    except ImportError:
        raise MissingExtraError("resiliparse", "web", "reading HTML") from None
    return encoding


def _parse(text: str) -> Any:
    try:
        from resiliparse.parse.html import HTMLTree
    except ImportError:
        raise MissingExtraError("resiliparse", "web", "reading HTML") from None
    return HTMLTree.parse(text)


def _fast(tree: Any) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(tree, main_content=True, alt_texts=False)


def _mark_headings(tree: Any) -> None:
    """Markdown's marks into the headings themselves, so that they stay where the text does."""
    if tree.document is None:
        return
    for heading in tree.document.query_selector_all("h1, h2, h3, h4, h5, h6"):
        if heading.first_child is not None and heading.text.strip():
            heading.insert_before(tree.create_text_node("#" * int(heading.tag[1]) + " "), heading.first_child)


def _quality(text: str, url: str) -> tuple[str, dict[str, Any]]:
    try:
        import trafilatura
    except ImportError:
        raise MissingExtraError("trafilatura", "web", "extracting with quality") from None
    found: Any = trafilatura.bare_extraction(text, url=url or None, with_metadata=True, include_comments=False)
    if found is None:
        return "", {}
    values = {key: getattr(found, key, None) for key in ("title", "author", "date", "sitename")}
    return found.text or "", {
        key: readable(str(value))[:_MAX_TITLE_CHARACTERS] for key, value in values.items() if value
    }


def _check_depth(data: bytes) -> None:
    """Refused where elements are nested too deeply; cheap where they cannot be."""
    if data.count(b"<") <= MAX_DEPTH:
        return
    codes = np.frombuffer(data, dtype=np.uint8)
    after = codes[np.flatnonzero(codes[:-1] == ord("<")) + 1]
    letters = ((after | 32) >= ord("a")) & ((after | 32) <= ord("z"))
    depth = np.cumsum(letters.astype(np.int32) - (after == ord("/")))
    if not len(depth) or depth.max() - min(0, depth.min()) <= MAX_DEPTH:
        return
    level = 0
    for end, name in _TAG.findall(data):
        if name.lower() in _FLAT:
            continue
        level = max(0, level - 1) if end else level + 1
        if level > MAX_DEPTH:
            raise Refused("too_deep", f"more than {MAX_DEPTH:,} elements within elements", broken=True)


def _title(tree: Any) -> str:
    return readable(" ".join((tree.title or "").split()))[:_MAX_TITLE_CHARACTERS]


def _language(tree: Any) -> str:
    """The language attribute of the html element, as the page has it."""
    root = tree.document.query_selector("html") if tree.document else None
    said = (root.getattr("lang") or root.getattr("xml:lang") or "") if root is not None else ""
    return readable(said).strip()[:35]


def _date(tree: Any) -> str:
    for selector in _DATES:
        found = tree.document.query_selector(selector) if tree.document else None
        said = (found.getattr("content") or found.getattr("datetime") or "") if found is not None else ""
        if date := _DATE.search(said):
            return date[0]
    return ""


def _links(tree: Any, url: str) -> list[str]:
    """Distinct links to other hosts, in order, at most 100."""
    if not tree.body:
        return []
    own = _host(url)
    links: dict[str, None] = {}
    # A slice is a tuple; iterating over what is found would search from the beginning for every one.
    for anchor in tree.body.get_elements_by_tag_name("a")[:_MAX_ANCHORS]:
        target = (anchor.getattr("href") or "").strip()
        if target.startswith("//"):
            target = "https:" + target
        if not target[:8].lower().startswith(("http://", "https://")) or len(target) > _MAX_LINK_CHARACTERS:
            continue
        if (host := _host(target)) and host != own:
            links[readable(target)] = None
            if len(links) == _MAX_LINKS:
                break
    return list(links)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
