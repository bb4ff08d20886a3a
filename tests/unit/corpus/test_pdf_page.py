"""PDF pages: text and metadata of a document that is written here by matplotlib; damage is a refusal."""

from __future__ import annotations

import datetime
import io

import pytest

from bloomery.corpus.guard import Refused
from bloomery.corpus.pdf_page import pdf_page


@pytest.fixture(scope="module")
def document() -> bytes:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    made = datetime.datetime(2021, 5, 6, tzinfo=datetime.UTC)
    with PdfPages(stream, metadata={"Title": "A title", "Author": "A. Body", "CreationDate": made}) as pdf:
        for words in ("The first page, see https://a.org/x for more", "The second page: äöü"):
            figure = Figure()
            figure.text(0.1, 0.5, words)
            pdf.savefig(figure)
    return stream.getvalue()


def test_pages_are_read_in_order(document: bytes):
    page = pdf_page(document)
    assert page.text == "The first page, see https://a.org/x for more\n\nThe second page: äöü"
    assert page.metadata["pages"] == 2
    assert page.metadata["title"] == "A title"
    assert page.metadata["author"] == "A. Body"
    assert page.metadata["date"] == "2021-05-06"
    assert page.metadata["links"] == ["https://a.org/x"]


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"%PDF-1.4\n" + b"\xff" * 500])
def test_damage_is_a_refusal(data: bytes):
    with pytest.raises(Refused) as caught:
        pdf_page(data)
    assert caught.value.reason == "damaged_pdf"
    assert caught.value.broken
