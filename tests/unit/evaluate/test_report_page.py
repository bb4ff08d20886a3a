"""The page: hostile text stays text, nothing is fetched or run, filters and drawings say what the numbers say."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bloomery.evaluate.judge_calibration import judged_score
from bloomery.evaluate.report import EvaluationReport, ReportAnswer, ReportSample, build_report
from bloomery.evaluate.report_page import (
    MAX_CHARACTERS,
    chart,
    classes,
    clean,
    figure_row,
    render,
    render_page,
    shown,
    table_of,
    write_html,
)
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.statistics import Interval

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></details></body><iframe src='https://evil.example/'></iframe>",
    "{{ 7777*7777 }}{% raw %}<%= 1 %>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</style><style>body{display:none}</style>",
    "</title><svg onload=alert(1)>",
    "a\u202eb\u0000c\x1b[31m\udcff",
    "<!-- --><![CDATA[x]]>&amp;&lt;",
]
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "table",
        "tr",
        "th",
        "td",
        "span",
        "code",
    ),
    *("svg", "line", "text", "g", "circle", "input", "label", "div", "details", "summary", "pre", "bdi"),
    *("h4", "ul", "li", "thead", "tbody"),
}
ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "name",
        "content",
        "http-equiv",
        "class",
        "id",
        "for",
        "type",
        "checked",
        "title",
        "dir",
        "role",
    ),
    *("aria-label", "viewbox", "width", "height", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "text-anchor"),
}


class Seen(HTMLParser):
    """What is in a page, as a browser would take it apart."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.words, self.open = (
            set[str](),
            list[tuple[str, str]](),
            list[str](),
            list[str](),
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "input", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def hostile_report() -> EvaluationReport:
    """Hostile text wherever a text may stand."""
    samples = [
        Sample(id=f"{n}{evil}", input=evil, targets=(evil,), choices=(evil, evil + "2"), cluster=evil)
        for n, evil in enumerate(HOSTILE)
    ]
    arms = [f"{evil} arm" for evil in HOSTILE[:3]]
    answers = {
        arm: [
            Answered(sample_id=one.id, text=one.input, error=HOSTILE[1], details={HOSTILE[0]: HOSTILE})
            for one in samples
        ]
        for arm in arms
    }
    scores = {
        arm: [
            Score(
                sample_id=one.id,
                scorer=HOSTILE[1],
                value=float(n % (place + 2) == 0),
                why=HOSTILE[2],
                answer=HOSTILE[3],
            )
            for n, one in enumerate(samples)
        ]
        for place, arm in enumerate(arms)
    }
    judge = judged_score(scores[arms[0]], {samples[0].id: "right"}, ("wrong", "right"))
    return build_report(
        {"name": HOSTILE[7], "description": HOSTILE[0], HOSTILE[1]: HOSTILE[2]},
        samples,
        answers,
        scores,
        corpus={arms[0]: {HOSTILE[0]: {"value": 12.5, "signature": HOSTILE[1]}}},
        judged={arms[0]: {HOSTILE[2]: judge}},
        costs={arms[0]: {HOSTILE[0]: HOSTILE[1], "joules": None}},
        contamination={HOSTILE[0]: HOSTILE[1], "ids": [samples[1].id]},
        notes=[HOSTILE[6]],
        made={HOSTILE[4]: HOSTILE[5]},
    )


def test_hostile_text_stays_text(tmp_path: Path):
    page = write_html(hostile_report(), tmp_path / "report.html").read_text(encoding="utf-8")
    seen = Seen()
    seen.feed(page)
    seen.close()
    assert seen.open == [] and seen.tags <= TAGS and {name for name, _ in seen.attributes} <= ATTRIBUTES
    text = "".join(seen.words)
    for evil in HOSTILE[:8]:
        assert evil in text
    assert "60481729" not in text
    assert "\u202e" not in page and "\x00" not in page and "\x1b" not in page
    assert page.count("<style>") == 1 and "<script" not in page


def test_nothing_is_fetched():
    page = render(hostile_report())
    seen = Seen()
    seen.feed(page)
    assert not [name for name, _ in seen.attributes if name in ("src", "href", "srcset", "action", "style", "data")]
    assert "@import" not in page and "url(" not in page
    policy = [value for name, value in seen.attributes if name == "content" and "default-src" in value]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_filters_hide_what_they_say():
    page = render(hostile_report())
    kinds = re.findall(r'<details class="([^"]*)"', page)
    assert len(kinds) == len(HOSTILE) and all(
        re.fullmatch(r"(all-right|all-wrong|differ)( [rw]\d)+ failed( contaminated)?", k) for k in kinds
    )
    for name in set(re.findall(r'id="f-([^"]+)"', page)) - {"all"}:
        number = int(re.findall(rf'for="f-{name}">[^<]* ([\d,]+)</label>', page)[0])
        assert number == sum(name in kind.split() for kind in kinds) > 0
        assert f"#f-{name}:checked ~ .samples > details:not(.{name})" in page


def test_a_list_of_flat_tables_is_a_table():
    found = table_of([{"choice": "<b>", "nats": -1.5}, {"choice": "c", "nats": -2}])
    assert found is not None and found["names"] == ["choice", "nats"]
    assert [[cell["text"] for cell in row] for row in found["rows"]] == [["<b>", "-1.5"], ["c", "-2"]]
    assert [cell["number"] for cell in found["rows"][0]] == [False, True]
    for value in ([], "text", [{"a": 1}, {"b": 1}], [{"a": {"b": 1}}], [1, 2], {"a": 1}):
        assert table_of(value) is None


def test_figures_are_drawn_where_they_lie_from_0_to_1():
    figure = {"value": 0.5, "low": 0.25, "high": 1.0, "samples": 1200, "method": "Wilson"}
    row = figure_row("t", "accuracy", figure, link="#t")
    assert (row["value"], row["interval"], row["samples"], row["link"]) == ("0.5", "0.25 to 1", "1,200", "#t")
    assert row["bar"]["at"] - row["bar"]["low"] == pytest.approx((row["bar"]["high"] - row["bar"]["at"]) / 2, abs=0.2)
    short = figure_row("t", "accuracy", {**figure, "caution": "too short: 9 values that lean"})
    assert (short["caution"], row["caution"]) == (True, False)
    page = render_page([], title="t", overview=[short])
    assert "0.25 to 1*" in page and "Wilson; may be too short: 9 values that lean" in page
    unknown = figure_row("t", "perplexity", {**figure, "value": 17.25, "low": None, "high": None})
    assert (unknown["bar"], unknown["interval"], "link" in unknown) == (None, "", False)


def test_labels_are_cut_by_how_wide_they_are():
    narrow, wide = (Interval(value=0.5, low=0.4, high=0.6, n=9, method="m") for _ in range(2))
    found = chart([("鉄" * 60, wide), ("i" * 20, narrow)])
    assert found is not None and found["rows"][0]["label"] == "鉄" * 23 + "…" and found["rows"][1]["label"] == "i" * 20
    alone = chart([("i", narrow)])
    assert alone is not None and alone["width"] < found["width"]


def test_dark_and_light_have_the_same_colours_of_their_own():
    page = render(hostile_report())
    light, dark = (re.findall(r"--([\w-]+):", part) for part in page.split("prefers-color-scheme: dark")[:2])
    assert light and set(light) <= set(dark) and set(re.findall(r"var\(--([\w-]+)\)", page)) <= set(light)


def test_an_arm_that_did_not_answer_keeps_the_places_of_the_others():
    sample = ReportSample(id="s", input="?", answers={"b": ReportAnswer(text="x", values={"exact": 1.0})})
    assert classes(sample, ["a", "b"], "exact") == "all-right r1"


def test_drawings_say_what_the_numbers_say():
    one, other = (Interval(value=v, low=v - 0.1, high=v + 0.1, n=9, method="m") for v in (0.25, 0.75))
    found = chart([("one", one), ("a very long name of an arm, longer than there is room", other)])
    assert found is not None and found["zero"] is None
    first, second = found["rows"]
    per_unit = (second["at"] - first["at"]) / 0.5
    assert first["high"] - first["low"] == pytest.approx(0.2 * per_unit, abs=0.2) and second["label"].endswith("…")
    assert [tick["text"] for tick in found["ticks"]] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    around = chart([("d", Interval(value=-0.3, low=-0.5, high=-0.1, n=9, method="m"))], zero=True)
    assert around is not None and around["rows"][0]["high"] < around["zero"]
    assert chart([]) is None
    same = chart([("s", Interval(value=5.0, low=5.0, high=5.0, n=9, method="m"))])
    assert same is not None and math.isfinite(same["rows"][0]["at"])
    for svg in re.findall(r"<svg.*?</svg>", render(hostile_report()), re.DOTALL):
        ElementTree.fromstring(svg)


def test_texts_and_values():
    assert clean("a\tb\nc\x07") == "a\tb\nc\ufffd" and clean("x" * (MAX_CHARACTERS + 5)).endswith("[5 characters more]")
    assert shown(None) == "unknown" and shown(1234.5) == "1,234" and shown(0.01234) == "0.0123" and shown(3) == "3"
    assert shown({"low": 1, "central": 2, "high": 3, "method": "estimated"}) == "2 (1 to 3), estimated"
    assert shown(True) == "True" and '"a": 1' in shown({"a": 1})
