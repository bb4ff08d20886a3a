"""Pages of evaluations: one file or a folder, figures as the artifact has them, and every text escaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.evaluate import evaluate, read_evaluation, read_records
from bloomery.evaluate.evaluation_page import evaluation_page, write_pages

EVIL = "</pre><script>alert('ölçü')</script>"


@pytest.fixture(scope="module")
def found(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("pages")
    choice = [{"query": f"if {n}", "choices": ["code", f"loop {EVIL}"], "gold": n % 2} for n in range(10)]
    free = [{"input": f"鉄は{n}？", "target": "value"} for n in range(3)]
    files = {"choice": choice, "free": free, "texts": [{"text": "if code"}, {"text": "loop none"}]}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = [folder / f"{name}.jsonl" for name in files]
    return evaluate(made.loaded, tasks, workspace=made.workspace)


class Table(HTMLParser):
    """The cells of the first table of a page, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = self._done = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr" and not self._done:
            self.rows.append([])
        if tag in ("td", "th") and not self._done:
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag not in ("td", "th")
        self._done = self._done or tag == "table"

    def handle_data(self, data: str) -> None:
        if self._open and not self._done:
            self.rows[-1][-1] += data


def test_one_file_has_all_tasks_with_their_figures(found: Artifact, tmp_path: Path):
    path = write_pages(found, tmp_path / "new" / "report.html")
    assert path == tmp_path / "new" / "report.html"
    page = path.read_text(encoding="utf-8")
    head, *rows = Table(page).rows
    assert head[:3] == ["task", "metric", "value"]
    wanted = [
        [one["task"], metric, f"{figure['value']:.4g}", f"{figure['samples']:,}"]
        for one in read_evaluation(found)["tasks"]
        for metric, figure in one["metrics"].items()
    ]
    assert [[row[0], row[1], row[2], row[-1]] for row in rows] == wanted and len({row[0] for row in rows}) == 3
    samples = sum(len(read_records(found, name)) for name in ("choice", "free"))
    assert len(re.findall(r'<details class="(?:all|differ)', page)) == samples == 13
    assert "<script" not in page and "alert(&#39;ölçü&#39;)" in page and "鉄は2？" in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="([^"]+)"', page)
    assert links and all(link.startswith("#") and link[1:] in ids for link in links)  # texts have no part of their own
    assert set(re.findall(r'for="([^"]+)"', page)) <= set(ids)


def test_a_folder_has_a_page_for_each_task_and_one_that_links_to_them(found: Artifact, tmp_path: Path):
    index = write_pages(found, tmp_path / "pages")
    assert index == tmp_path / "pages" / "index.html"
    assert {path.name for path in index.parent.iterdir()} == {"index.html", "choice.html", "free.html"}
    links = set(re.findall(r'href="([^"]+)"', index.read_text(encoding="utf-8")))
    assert links == {"choice.html", "free.html"}
    one = (index.parent / "choice.html").read_text(encoding="utf-8")
    assert "alert(&#39;ölçü&#39;)" in one and "鉄" not in one


def test_a_task_of_any_name_keeps_its_page(made: Any, tmp_path: Path):
    for name in ("index", "half + (half)"):
        (tmp_path / f"{name}.jsonl").write_text('{"query": "if", "choices": ["code", "loop"], "gold": 0}\n' * 2)
    tasks = [tmp_path / "index.jsonl", tmp_path / "half + (half).jsonl"]
    page = write_pages(evaluate(made.loaded, tasks, workspace=made.workspace), tmp_path / "pages").read_text()
    assert 'href="index-task.html"' in page and 'href="half%20%2B%20%28half%29.html"' in page
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {
        "index.html",
        "index-task.html",
        "half + (half).html",
    }


def test_what_was_compared_is_said(found: Artifact, made: Any):
    page = evaluation_page(found, against=found)
    assert f"({found.name})" in page and "not distinguishable at n = 10" in page and "Marks, in this order" in page


def test_a_folder_is_no_file(found: Artifact, tmp_path: Path):
    (tmp_path / "report.html").mkdir()
    (tmp_path / "pages").write_text("")
    for target in ("report.html", "pages"):
        with pytest.raises(ConfigError, match=r"is a (file|folder)"):
            write_pages(found, tmp_path / target)
