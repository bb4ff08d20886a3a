"""Page files: one HTML or PDF file on disk, one document. This module does not know how text is taken out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.extraction import PageSource, extract_page
from bloomery.corpus.formats import kind_of
from bloomery.corpus.guard import Guard, Refused
from bloomery.corpus.problems import Problems
from bloomery.corpus.streams import BrokenStream, read_blocks


def read_page(
    path: Path, config: CurateConfig, problems: Problems, *, guard: Guard | None = None
) -> Iterator[Document]:
    """The file's one document, if there is text in it; metadata is what the extraction knows.

    BrokenStream if it cannot be opened.
    """
    name, limit = readable(str(path)), config.max_document_bytes
    data = bytearray()
    try:
        for block in read_blocks(path, max_expansion=config.max_expansion):
            data += block
            if len(data) > limit:
                raise Refused("document_too_large", f"more than {limit:,} bytes", broken=True)
        html = kind_of(path) in (".html", ".htm", ".xhtml")
        source = PageSource(bytes(data), content_type="text/html" if html else "")
        page = (guard or Guard()).run(name, lambda: extract_page(source, how=config.extract))
        yield Document.of(page.text, name, page.metadata)
    except Refused as refused:
        (problems.refuse if refused.broken else problems.drop)(refused.reason, name, refused.detail)
    except BrokenStream as error:
        if error.reason == "unreadable":
            raise
        problems.refuse(error.reason, name, error.detail)
