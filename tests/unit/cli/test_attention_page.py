"""The page and the pictures: self-contained, escaped, and with the right numbers in them."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bloomery.cli.attention_page import render_page, write_page, write_picture
from bloomery.core.workspace import Workspace
from bloomery.engine.glass_box_open import open_glass_box
from bloomery.engine.glass_views import AttentionView, TokenAt

EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>&$a$'


@pytest.fixture(scope="module")
def view(tiny) -> AttentionView:
    workspace = Workspace(tiny.home)
    return open_glass_box(workspace.latest("model"), workspace=workspace).attention("term1 term2 term3")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _data(page: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_weights_are_in_the_page(view: AttentionView, tmp_path: Path):
    write_page(view, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    data = _data(page)
    steps = np.frombuffer(base64.b64decode(data["weights"]), dtype="<u2").reshape(data["rows"], data["columns"])
    assert np.abs(steps / 65535 - np.asarray(view.grid.maxima)).max() < 1 / 65535
    assert data["keys"] == [key.text for key in view.keys] and data["chosen"] == view.query.index
    assert "not explanation" in page and f"{view.keys[0].weight:.4f}" in page


def test_nothing_is_fetched_and_text_is_escaped(view: AttentionView):
    nasty = replace(
        view,
        model=EVIL,
        queries=tuple(TokenAt(index=n, token_id=0, text=EVIL) for n in range(len(view.queries))),
        query=TokenAt(index=0, token_id=0, text=EVIL),
        keys=tuple(replace(key, text=EVIL) for key in view.keys),
    )
    page = render_page(nasty)
    parsed = _Tags()
    parsed.feed(page)
    names = [tag for tag, _ in parsed.tags]
    assert names.count("script") == 2 and "img" not in names and "link" not in names
    assert not any("src" in values or "href" in values for _, values in parsed.tags)
    assert not re.search(r"https?://", page)
    assert _data(page)["keys"][0] == EVIL
    policy = next(values["content"] for tag, values in parsed.tags if tag == "meta" and "http-equiv" in values)
    assert policy is not None and policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_pictures(view: AttentionView, tmp_path: Path, name: str):
    odd = tuple(replace(token, text="$x$ \u706b") for token in view.queries)
    write_picture(replace(view, queries=odd), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"\x89PNG") if name.endswith("png") else b"<svg" in data
    assert len(data) > 1000
