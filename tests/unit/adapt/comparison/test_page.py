"""The page is self-contained, escapes what strangers wrote, and shows every answer."""

from __future__ import annotations

from dataclasses import replace

from bloomery.adapt.comparison.page import page
from bloomery.adapt.comparison.split import read_part
from bloomery.adapt.comparison.testing import read_comparison


def test_verdict_and_answers_are_on_it(made):
    text = made.artifact.file("report.html").read_text("utf-8")
    result = read_comparison(made.artifact)
    assert result["split"]["digests"]["test"] in text and "<script" not in text and "://" not in _without_svg(text)
    assert text.count("<details>") == 24 and "lora" in text and "Break-even" in text


def test_strangers_text_is_escaped(made):
    split = made.workspace.find(made.artifact.parents[0])
    test = [replace(one, input="<script>alert(1)</script>") for one in read_part(split, "test")]
    text = page(read_comparison(made.artifact), [], test)
    assert "<script>" not in text and "&lt;script&gt;" in text


def _without_svg(text: str) -> str:
    return text[: text.index("<svg")] + text[text.index("</svg>") :]
