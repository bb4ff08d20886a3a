"""The page is self-contained, escapes what strangers wrote in any script, and shows every answer."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bloomery.adapt.comparison.page import page
from bloomery.adapt.comparison.split import read_part
from bloomery.adapt.comparison.testing import read_comparison

_EMPTY = {"meta", "link", "br", "img", "hr"}
_HOSTILE = '<script>alert(1)</script> "quotes" & \' </pre></details> \u202e 鉄を溶かす炉 حديد'


@pytest.fixture
def result(made):
    return copy.deepcopy(read_comparison(made.artifact))


class Parsed(HTMLParser):
    """Tags that are open, and what is wrong."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in _EMPTY else [tag]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def test_verdict_first_and_answers_on_it(made, result):
    text = made.artifact.file("report.html").read_text("utf-8")
    assert result["split"]["digests"]["test"] in text and "<script" not in text and "://" not in _without_svg(text)
    assert text.count("<details>") == 24 and "Break-even" in text and text.count("<svg") == 2
    body = text[text.index("<body>") :]
    places = [body.index(what) for what in ('class="verdict"', "<h2>Arms", "<svg", "More labels", "<h2>Answers")]
    assert places == sorted(places)
    parsed = Parsed(_without_svg(text))
    assert parsed.wrong == [] and parsed.open == []


def test_every_interval_is_a_bar_where_it_belongs(result):
    for arm in result["arms"]:
        arm["quality"].update(low=0.2, value=0.3, high=0.4)
    result["arms"][0]["quality"].update(low=0.41, value=0.5, high=0.6, caution="too few to lean on")
    text = page(result, [], [])
    assert "majority: too few to lean on." in text
    assert "0.20 to 0.60" in text and 'left: 52.5%; width: 47.5%"></i><b style="left: 75.0%' in text


def test_it_is_light_or_dark_as_the_reader_has_it(made):
    text = made.artifact.file("report.html").read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    figures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--ink)" in figures and "#1f2937" not in figures and "#ffffff" not in figures


def test_strangers_text_is_escaped(made, result):
    split = made.workspace.find(made.artifact.parents[0])
    test = [replace(one, input=_HOSTILE) for one in read_part(split, "test")]
    for key in ("name", "verdict", "metric"):
        result[key] = _HOSTILE
    result["left_out"] = {_HOSTILE: _HOSTILE}
    for arm in result["arms"]:
        was, arm["name"] = arm["name"], f"{_HOSTILE} {arm['name']}"
        result["recommended"] = arm["name"] if result["recommended"] == was else result["recommended"]
        arm["notes"], arm["failed"], arm["failed_because"] = [_HOSTILE], 1, _HOSTILE
    result["ranking"]["recommended"] = result["recommended"]
    text = page(result, [], test)
    assert "<script>" not in text and "&lt;script&gt;" in text and "鉄を溶かす炉" in text
    parsed = Parsed(_without_svg(text))
    assert parsed.wrong == [] and parsed.open == []
    assert any("鉄を溶かす炉 حديد" in one for one in parsed.words)


def _without_svg(text: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
