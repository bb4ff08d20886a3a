"""HTML pages: the texts that the libraries themselves give, encodings by the standard's order, and limits."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest
import trafilatura
from resiliparse.extract.html2text import extract_plain_text

from bloomery.corpus.guard import Refused
from bloomery.corpus.html_page import MAX_DEPTH, decode_page, html_page

PAGE = """<html lang="pt-BR"><head><title> Um  título </title><meta property="article:published_time"
content="2020-03-04T05:06"></head><body><nav><a href="/menu">Menu</a></nav><main><p>{text}</p>
<a href="https://other.org/x">other</a><a href="//third.org/y">third</a><a href="https://www.own.org/z">own</a>
<a href="mailto:a@b.c">mail</a><a href="http://[bad">bad</a></main></body></html>"""


@pytest.fixture(scope="module")
def pages(shared_data: Path) -> dict[str, tuple[bytes, dict]]:
    folder = shared_data / "web" / "trafilatura"
    gold = {row["file"]: row for row in json.loads((folder / "evaldata.json").read_text(encoding="utf-8")).values()}
    found: dict[str, tuple[bytes, dict]] = {}
    with tarfile.open(folder / "eval_html_lt110k.tar.xz") as tar:
        for member in tar:
            name = Path(member.name).name
            if member.isfile() and name in gold and len(found) < 25:
                found[name] = tar.extractfile(member).read(), gold[name]  # type: ignore[union-attr]
    return found


def test_the_text_is_the_librarys(pages: dict[str, tuple[bytes, dict]]):
    for name, (data, _) in pages.items():
        text, _ = decode_page(data, "", html=True)
        assert html_page(data, charset="", url="", how="fast").text == extract_plain_text(
            text, main_content=True, alt_texts=False
        ), name


def test_headings_are_marked_and_hardly_anything_else_changes(pages: dict[str, tuple[bytes, dict]]):
    marked, others = 0, 0
    for data, _ in pages.values():
        plain, text = (html_page(data, charset="", url="", how=how).text for how in ("fast", "headings"))
        marked += text != plain
        others += re.sub(r"#{1,6} ", "", plain).split() != re.sub(r"#{1,6} ", "", text).split()
    assert marked > len(pages) // 2
    assert others <= len(pages) // 10  # the library weighs texts: with a mark, a line beside the text may count to it
    data = b"<main><h1>Iron <b>ore</b></h1><p>x</p><h2></h2><h3>Bars</h3></main>"
    assert html_page(data, charset="", url="", how="headings").text == "# Iron ore\n\nx\n\n### Bars"
    assert html_page(b"", charset="", url="", how="headings").text == ""


def test_quality_finds_what_the_library_finds(pages: dict[str, tuple[bytes, dict]]):
    ours = theirs = total = 0
    for data, gold in list(pages.values())[:10]:
        text = html_page(data, charset="", url="", how="quality").text
        alone = trafilatura.extract(data, include_comments=False) or ""
        ours += sum(segment in text for segment in gold["with"])
        theirs += sum(segment in alone for segment in gold["with"])
        total += len(gold["with"])
    assert total > 20
    assert abs(ours - theirs) <= 1  # trafilatura detects encodings itself, and may detect another


def test_what_is_known_of_a_page():
    data = PAGE.format(text="Algumas palavras estão aqui. " * 9).encode()
    page = html_page(data, charset="", url="https://own.org/", how="fast")
    assert page.text.startswith("Algumas palavras")
    assert page.metadata == {
        "title": "Um título",
        "language": "pt-BR",
        "date": "2020-03-04",
        "links": ["https://other.org/x", "https://third.org/y"],
    }


TEXT = "Übergrößenträger für Äpfel und Öl: naïve façade"


@pytest.mark.parametrize(
    ("data", "charset", "encoding"),
    [
        (b"\xef\xbb\xbf" + TEXT.encode(), "latin-1", "utf-8"),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), "", "utf-16-le"),
        (TEXT.encode("cp1252"), "iso-8859-1", "cp1252"),
        (b'<meta charset="windows-1252">' + TEXT.encode("cp1252"), "", "cp1252"),
        (TEXT.encode(), "utf-8", "utf-8"),
        (TEXT.encode(), "", "utf-8"),
        (TEXT.encode(), "no-such-encoding", "utf-8"),
    ],
)
def test_encodings_go_by_mark_header_and_meta(data: bytes, charset: str, encoding: str):
    text, found = decode_page(data, charset, html=True)
    assert text.endswith(TEXT)
    assert found == encoding


def test_a_wrong_header_gives_way_to_what_decodes():
    text, _ = decode_page(
        b'<meta charset="windows-1251">' + "Привет, это проверка".encode("cp1251"), "utf-8", html=True
    )
    assert text.endswith("Привет, это проверка")


def test_depth_is_limited_and_breadth_is_not():
    with pytest.raises(Refused) as caught:
        html_page(b"<div>" * (MAX_DEPTH + 2) + b"x", charset="", url="", how="fast")
    assert caught.value.reason == "too_deep"
    wide = b"<main>" + b"<p>word<br><img src=a>" * (3 * MAX_DEPTH)
    assert html_page(wide, charset="", url="", how="fast").text.count("word") == 3 * MAX_DEPTH
    assert html_page(b"", charset="", url="", how="fast").text == ""
