"""Lines and paragraphs: against splitting in plain Python; C4's own way for lines."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus.segments import RepeatedSegments, lines_of, paragraphs_of

_CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)  # a busy machine is slow
_TEXT = st.text(st.sampled_from("aB \n\t"), max_size=30)


@given(_TEXT)
def test_segments_joined_are_the_text_and_are_compared_as_plain_python_splits(text: str):
    assert "".join(text[a:b] for a, b, _ in lines_of(text)) == text
    lines = text.split("\n")
    assert [c for _, _, c in lines_of(text)] == [x.strip().lower() for x in (lines if lines[-1] else lines[:-1])]
    paragraphs = list(paragraphs_of(text))
    assert "".join(text[a:b] for a, b, _ in paragraphs) == (text if text.strip() else "")
    expected = [" ".join(p.split()).lower() for p in re.split(r"\n[^\S\n]*(?=\n)", text) if p.strip()]
    assert [c for _, _, c in paragraphs] == expected


@settings(suppress_health_check=_CHECKS, max_examples=30, deadline=None)
@given(texts=st.lists(_TEXT, max_size=5), least=st.integers(1, 3))
def test_lines_left_are_those_that_c4_leaves(tmp_path: Path, texts: list[str], least: int):
    segments = RepeatedSegments(tmp_path / "lines", "line", min_characters=least)
    seen: dict[str, str] = {}
    for number, text in enumerate(texts):
        cuts = segments.cuts(text, str(number))
        gone = {c.start for c in cuts}
        left, at = [], 0
        for line in re.findall(r"[^\n]*\n|[^\n]+$", text):
            key = line.strip().lower()
            repeated = len(key) >= least and key in seen
            assert (at in gone) == repeated
            if repeated:
                assert next(c.first for c in cuts if c.start == at) == seen[key]
            else:
                left.append(line)
            if len(key) >= least:
                seen.setdefault(key, str(number))
            at += len(line)
        assert all(text[c.start : c.end].strip() for c in cuts)
    segments.close()


def test_a_paragraph_is_the_same_however_its_lines_are_broken(tmp_path: Path):
    segments = RepeatedSegments(tmp_path / "p", "paragraph", min_characters=5)
    assert segments.cuts("One two\nthree.\n\nfour", "a") == []
    text = "new\n\none  TWO three.\n \nfour\n\nnew one"
    assert [(text[c.start : c.end], c.first) for c in segments.cuts(text, "b")] == [("one  TWO three.\n \n", "a")]
    segments.close()
