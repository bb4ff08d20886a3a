"""Web records: from the records of WARC, WET, WAT and ARC files to documents, each other record with its reason.

HTTP responses and resources that are HTML, PDF or plain text, WET's converted texts, and WAT's metadata records (title
and description). HTTP headers, chunks and content codings are fastwarc's business; how text is taken out of a page is
`extraction`'s. Every record of a file is a document or stands in dropped.jsonl.zst.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bloomery.core.errors import MissingExtraError
from bloomery.corpus.archive_records import ArchiveRecord, read_records
from bloomery.corpus.archive_stream import ArchiveStream, Place
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.extraction import PageSource, extract_page
from bloomery.corpus.guard import Guard, Page, Refused
from bloomery.corpus.problems import Problems
from bloomery.corpus.span import Span
from bloomery.corpus.streams import BrokenStream

_SHA = ("sha1", "md5", "sha256")
_STATUS = re.compile(rb"HTTP/\S+[ \t]+(\d{3})")
_MAX_LINKS = 100
_GLANCE_BYTES = 1024


def read_web_archive(
    path: Path, config: CurateConfig, problems: Problems, *, span: Span | None = None, guard: Guard | None = None
) -> Iterator[Document]:
    """The documents of a WARC, WET, WAT or ARC file, or of a span of it. BrokenStream if it cannot be opened.

    `source` is `PATH, offset N`; metadata: offset, url, captured (the archive's date), record (its id), and what the
    extraction knows. MissingExtraError without the extra "web".
    """
    name, guard = readable(str(path)), guard or Guard()

    def refuse(reason: str, place: Place, detail: str) -> None:
        problems.refuse(reason, f"{name}, {place}", detail)

    try:
        with ArchiveStream(path, max_expansion=config.max_expansion) as stream:
            for record in read_records(stream, span or Span(), limit=config.max_document_bytes, refuse=refuse):
                source = f"{name}, {record.place}"
                try:
                    if not record.whole:
                        raise Refused("record_too_large", f"{record.size:,} bytes", broken=True)
                    page = guard.run(source, _Reading(record, config, problems, source).page)
                    text = _sized(page.text, config)
                except Refused as refused:
                    (problems.refuse if refused.broken else problems.drop)(refused.reason, source, refused.detail)
                    continue
                metadata = {"offset": record.place.offset}
                if record.place.inside:
                    metadata["inside"] = record.place.inside
                yield Document.of(text, source, {**metadata, **page.metadata})
    except OSError as error:
        raise BrokenStream("unreadable", error.strerror or str(error)) from error


def _sized(text: str, config: CurateConfig) -> str:
    if len(text) > config.max_document_bytes:
        raise Refused("document_too_large", f"{len(text):,} characters", broken=True)
    return text


class _Reading:
    """One record on its way to a page."""

    def __init__(self, record: ArchiveRecord, config: CurateConfig, problems: Problems, source: str) -> None:
        self.record, self.config, self.problems, self.source = record, config, problems, source

    def page(self) -> Page:
        """The record's page; Refused with the reason why it is none."""
        if self.record.head.startswith(b"WARC/"):
            self._data = self.record.head + self.record.block + b"\r\n\r\n"
        else:
            self._data = _as_warc(self.record)
        warc = self._parsed()
        kind = (warc.headers.get("WARC-Type") or "").strip().lower()
        known = {
            "url": (warc.headers.get("WARC-Target-URI") or "").strip("<> "),
            "captured": warc.headers.get("WARC-Date") or "",
            "record": (warc.headers.get("WARC-Record-ID") or "").strip("<> "),
            "truncated": warc.headers.get("WARC-Truncated") or "",
        }
        known = {key: readable(value)[:4000] for key, value in known.items() if value}
        content = (warc.headers.get("Content-Type") or "").strip().lower()
        if kind == "conversion" or (kind == "resource" and not content.startswith("application/http")):
            page = self._extract(warc.reader.read(), content, known.get("url", ""))
        elif kind in ("response", "resource"):
            page = self._response(warc, known)
        elif kind == "metadata" and content.startswith("application/json"):
            page = _wat_page(warc.reader.read())
        else:
            raise Refused("record_type", kind or "none")
        self._check_digest(warc)
        return Page(page.text, {**known, **page.metadata})

    def _parsed(self) -> Any:
        """The record, from its begin."""
        return _parse(self._data)

    def _check_digest(self, warc: Any) -> None:
        stated = (warc.headers.get("WARC-Block-Digest") or "").lower()
        if stated.startswith(_SHA) and not self._parsed().verify_block_digest():
            self.problems.add("digest_mismatch", self.source, "its bytes are not those of its WARC-Block-Digest; kept")

    def _response(self, warc: Any, known: dict[str, str]) -> Page:
        if not self.record.block.startswith(b"HTTP/"):
            raise Refused("content_type", "no HTTP response")
        status = _STATUS.match(self.record.block)
        if status is None or not 200 <= int(status[1]) < 300:
            raise Refused("http_status", status[1].decode() if status else "none")
        body, content, coding = self._body(warc)
        if len(body) > self.config.max_document_bytes:
            raise Refused("record_too_large", f"its body is larger than {self.config.max_document_bytes:,} bytes")
        page = self._extract(body, content, known.get("url", ""))
        return Page(page.text, {**page.metadata, "coding": coding} if coding else page.metadata)

    def _body(self, warc: Any) -> tuple[bytes, str, str]:
        """(body without chunks and content coding, its type as the server said, "").

        Some crawlers store what a browser has decoded, with the headers that it came with: then "stored_decoded".
        """
        limit = self.config.max_document_bytes + 1
        try:
            warc.parse_http(auto_decode="all", quirks_mode=True)
            return warc.reader.read(limit), _http_type(warc), ""
        except OSError as error:
            plain = self._parsed()
            try:
                plain.parse_http(auto_decode="none", quirks_mode=True)
                body = plain.reader.read(limit)
            except OSError:
                body = b"\0"
            if b"\0" in body[:_GLANCE_BYTES] or _encoded(body):
                raise Refused("damaged_body", str(error), broken=True) from error
            return body, _http_type(plain), "stored_decoded"

    def _extract(self, body: bytes, content: str, url: str) -> Page:
        source = PageSource(body, content_type=content, url=url)
        return extract_page(source, how=self.config.extract)


def _parse(data: bytes) -> Any:
    try:
        from fastwarc.warc import WarcRecord
    except ImportError:
        raise MissingExtraError("fastwarc", "web", "reading web archives") from None
    try:
        return WarcRecord.from_reader(io.BytesIO(data), quirks_mode=True)
    except OSError as error:
        raise Refused("broken_header", str(error), broken=True) from error


def _http_type(warc: Any) -> str:
    return (warc.http_headers.get("Content-Type") or "") if warc.http_headers is not None else ""


def _encoded(body: bytes) -> bool:
    """It is no text as it stands: most of its first bytes are neither printable nor UTF-8."""
    head = body[:_GLANCE_BYTES]
    text = head.decode("utf-8", "replace")
    return sum(c == "\ufffd" or (c < " " and c not in "\t\r\n\f") for c in text) > len(text) // 20


def _as_warc(record: ArchiveRecord) -> bytes:
    """An ARC record with a WARC header, so that one parser reads both. ARC 2 has five fields more than ARC 1."""
    fields = record.head.decode("utf-8", "replace").split()
    date = next((n for n in range(len(fields) - 1, 0, -1) if fields[n].isdigit() and 12 <= len(fields[n]) <= 18), 0)
    if date < 2:
        raise Refused("broken_header", "no URL, address and date", broken=True)
    url, stamp = " ".join(fields[: date - 1]), fields[date].ljust(14, "0")
    if url.startswith("filedesc:"):
        raise Refused("record_type", "filedesc")
    when = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:12]}:{stamp[12:14]}Z"
    content = (
        "application/http" if record.block.startswith(b"HTTP/") else fields[date + 1] if date + 1 < len(fields) else ""
    )
    kind = "response" if record.block.startswith(b"HTTP/") else "resource"
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: {when}\r\n"
    head += f"Content-Type: {content}\r\nContent-Length: {record.size}\r\n\r\n"
    return head.encode() + record.block + b"\r\n\r\n"


def _wat_page(data: bytes) -> Page:
    """What a WAT record knows of a page: its title and description are the text."""
    try:
        envelope = json.loads(data)["Envelope"]
        header = envelope.get("WARC-Header-Metadata") or {}
        response = (envelope.get("Payload-Metadata") or {}).get("HTTP-Response-Metadata") or {}
        html = response.get("HTML-Metadata") or {}
        head = html.get("Head") or {}
        metas = [meta for meta in head.get("Metas") or () if isinstance(meta, dict)]
        title = str(head.get("Title") or "").strip()
        names = ("description", "og:description")
        said = (str(m.get("content") or "") for m in metas if str(m.get("name") or m.get("property")).lower() in names)
        description = next((text.strip() for text in said if text.strip()), "")
        links = [str(link.get("url")) for link in html.get("Links") or () if isinstance(link, dict)]
        outbound = [link for link in dict.fromkeys(links) if link.startswith(("http://", "https://"))]
        known = {
            "url": str(header.get("WARC-Target-URI") or ""),
            "title": title,
            "kind": str(header.get("WARC-Type") or ""),
            "links": [readable(link) for link in outbound[:_MAX_LINKS]],
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused("broken_json", f"no WAT envelope: {error}"[:200], broken=True) from error
    text = readable("\n\n".join(part for part in (title, description) if part))
    if not text:
        raise Refused("no_text", "neither title nor description")
    return Page(text, {key: readable(v) if isinstance(v, str) else v for key, v in known.items() if v})
