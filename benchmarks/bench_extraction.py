"""Extraction of web pages: F1 on trafilatura's evaluation pages, and documents per second beside datatrove's.

    python benchmarks/bench_extraction.py f1       # both extractors, and the libraries alone, on pages with gold texts
    python benchmarks/bench_extraction.py speed    # the same pages as a WARC file: ours and datatrove's, in turn
    python benchmarks/bench_extraction.py filter   # and held to FineWeb's rules, the fast extractor on both sides

F1 counts the segments that a page's text should hold (`with`) and those that it should not (`without`), as
trafilatura's own evaluation does. Speed is one process each, from the WARC file to documents; ratios are taken in turn.
datatrove has no fast extractor: for `filter` it is given resiliparse's, in the sandbox that it runs extractors in, and
everything is kept on one processor; rules as in bench_rules.py. datatrove is a peer for this benchmark alone: `pip
install datatrove spacy faust-cchardet python-magic`. The pages are looked for in $BLOOMERY_DATA, or in ../shared/data.
"""

from __future__ import annotations

import io
import json
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import peer_datatrove as peer
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.guard import Refused
from bloomery.corpus.html_page import html_page
from bloomery.corpus.judge import Judge
from bloomery.corpus.problems import Problems
from bloomery.corpus.web_records import read_web_archive

TURNS = 3
DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def pages() -> dict[str, tuple[bytes, dict]]:
    """Every page that has both its HTML here and gold segments: url -> (bytes, gold)."""
    folder = DATA / "web" / "trafilatura"
    gold = json.loads((folder / "evaldata.json").read_text(encoding="utf-8"))
    with tarfile.open(folder / "eval_html_lt110k.tar.xz") as tar:
        html = {Path(member.name).name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    return {url: (html[row["file"]], row) for url, row in gold.items() if row.get("file") in html}


def f1(extract: Callable[[bytes, str], str], found: dict[str, tuple[bytes, dict]]) -> tuple[float, float, float]:
    """(F1, precision, recall) over the segments of all pages."""
    true = missed = false = 0
    for url, (data, gold) in found.items():
        text = extract(data, url)
        true += sum(segment in text for segment in gold["with"])
        missed += sum(segment not in text for segment in gold["with"])
        false += sum(segment in text for segment in gold["without"])
    precision, recall = true / max(1, true + false), true / max(1, true + missed)
    return 2 * true / max(1, 2 * true + false + missed), precision, recall


def ours(how: Literal["fast", "quality"]) -> Callable[[bytes, str], str]:
    def extract(data: bytes, url: str) -> str:
        try:
            return html_page(data, charset="", url=url, how=how).text
        except Refused:
            return ""

    return extract


def trafilatura_alone(data: bytes, url: str) -> str:
    import trafilatura

    return trafilatura.extract(data, url=url, include_comments=False) or ""


def resiliparse_alone(data: bytes, url: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    del url
    return extract_plain_text(bytes_to_str(data, detect_encoding(data, from_html_meta=True)), main_content=True)


def show_f1() -> None:
    found = pages()
    print(f"{len(found)} pages; F1, precision, recall")
    ways = {
        "extract = quality": ours("quality"),
        "trafilatura alone": trafilatura_alone,
        "extract = fast": ours("fast"),
        "resiliparse alone": resiliparse_alone,
    }
    for name, extract in ways.items():
        print(f"{name:20} " + "  ".join(f"{value:.3f}" for value in f1(extract, found)), flush=True)


def write_warc(path: Path) -> int:
    """The evaluation pages as HTTP responses in a WARC file, a gzip member each."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    found = pages()
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for url, (data, _) in found.items():
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
            record = writer.create_warc_record(url, "response", payload=io.BytesIO(data), http_headers=headers)
            writer.write_record(record)
    return len(found)


def read_ours(path: Path, how: Literal["fast", "quality"]) -> int:
    return sum(1 for _ in read_web_archive(path, CurateConfig(extract=how), Problems()))


def read_datatrove(path: Path) -> int:
    """Its WARC reader and its Trafilatura extractor, in this process."""
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader

    reader = WarcReader(str(path.parent), glob_pattern=path.name, file_progress=False, doc_progress=False)
    return sum(1 for _ in Trafilatura(timeout=20)(reader()))


def filter_ours(path: Path, judge: Judge) -> int:
    read = read_web_archive(path, CurateConfig(extract="fast"), Problems())
    return sum(judge.judge(one.text).rule is None for one in read)


def filter_datatrove(path: Path, filters: list[Any]) -> int:
    """Its WARC reader, resiliparse as one of its extractors, and its filters of FineWeb."""
    from datatrove.pipeline.extractors.base import BaseExtractor
    from datatrove.pipeline.readers import WarcReader

    class Resiliparse(BaseExtractor):
        name = "resiliparse"

        def __init__(self) -> None:
            super().__init__(timeout=20)

        def extract(self, text: str) -> str:
            from resiliparse.extract.html2text import extract_plain_text

            return extract_plain_text(text, main_content=True)

    reader = WarcReader(str(path.parent), glob_pattern=path.name, file_progress=False, doc_progress=False)
    documents = Resiliparse()(reader())
    for one in filters:
        documents = one(documents)
    return sum(1 for _ in documents)


def show_filter() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.warc.gz"
        count, ratios, kept = write_warc(path), [], (0, 0)
        judge, filters = Judge(peer.rules_of("fineweb")), peer.filters("fineweb")
        for _ in range(1 + TURNS):
            began = time.perf_counter()
            ours = filter_ours(path, judge)
            between = time.perf_counter()
            kept = ours, filter_datatrove(path, filters)
            seconds = between - began, time.perf_counter() - between
            ratios.append(seconds[1] / seconds[0])
            print(f"ours {count / seconds[0]:.1f} pages/s, datatrove {count / seconds[1]:.1f}", flush=True)
    print(f"kept: ours {kept[0]}, datatrove {kept[1]} of {count}")
    later = ratios[1:]
    print(
        f"filter, ours over datatrove: {ratios[0]:.2f} the first time, when neither knows a word of the pages", end=""
    )
    print(f"; then {statistics.median(later):.2f} ({min(later):.2f} to {max(later):.2f})")


def show_speed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.warc.gz"
        count = write_warc(path)
        ways: dict[str, Callable[[], int]] = {
            "ours, fast": lambda: read_ours(path, "fast"),
            "ours, quality": lambda: read_ours(path, "quality"),
        }
        try:
            print(f"datatrove {version('datatrove')}")
            ways["datatrove, trafilatura"] = lambda: read_datatrove(path)
        except PackageNotFoundError:
            print("datatrove is not installed: ours alone")
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(TURNS):
            for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
                began = time.perf_counter()
                ways[name]()
                rates[name].append(count / (time.perf_counter() - began))
        for name, found in rates.items():
            print(f"{name:24} {statistics.median(found):8.1f} pages/s ({min(found):.1f} to {max(found):.1f})")
        if "datatrove, trafilatura" in rates:
            for name in ("ours, fast", "ours, quality"):
                ratios = [a / b for a, b in zip(rates[name], rates["datatrove, trafilatura"], strict=True)]
                shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"{name} over datatrove: {shown}")


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    print(f"trafilatura {version('trafilatura')}, resiliparse {version('resiliparse')}")
    wanted = sys.argv[1:] or ["f1", "speed", "filter"]
    if "f1" in wanted:
        show_f1()
    if "speed" in wanted:
        show_speed()
    if "filter" in wanted:
        show_filter()


if __name__ == "__main__":
    main()
