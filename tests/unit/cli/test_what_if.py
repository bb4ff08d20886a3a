"""`bloomery curate --profile` and `--what-if`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bloomery.cli.curate import filter_overrides


def _made(seed: int, lines: int) -> str:
    """Lines of made words among common ones: nothing in them is said twice."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choice("bdfklmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))

    return "\n".join(
        f"The {word()} of {word()} {word()} and {word()} {word()} to {word()} {word()} that {word()} {word()}. "
        f"{word()} {word()} have {word()} {word()} with {word()} {word()} by {word()}."
        for _ in range(lines)
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    texts = [_made(n, n % 4 + 1) for n in range(40)]
    path.write_text("".join(json.dumps({"text": text, "label": n % 2}) + "\n" for n, text in enumerate(texts)))
    return path


def test_short_names_stand_for_long_ones():
    assert filter_overrides(["rules.a=1", "personal.email=mask", "curate.split=hash"], profile="gopher") == [
        "curate.filter.rules.a=1",
        "curate.personal.email=mask",
        "curate.split=hash",
        "curate.filter.profile=gopher",
    ]


def test_a_profile_then_what_if(call, source: Path, tmp_path: Path):
    home = ("--home", str(tmp_path / "h"), "--quiet")
    made = json.loads(call("curate", str(source), "--profile", "gopher", "--json", *home).out)
    assert made["metrics"]["dropped"]["gopher_min_words"] > 0
    asked = ("curate", "--what-if", made["name"], "--set", "rules.gopher_min_words=10", *home)
    answer = json.loads(call(*asked, "--json").out)
    assert answer["documents"] == 40 and answer["then"]["documents"] > answer["now"]["documents"]
    shown = call(*asked).out
    assert "gopher_min_words" in shown and ">= 50" in shown and "estimated" in shown and "kept then" in shown


def test_languages_without_a_profile(call, source: Path, tmp_path: Path):
    pytest.importorskip("py3langid")
    home = ("--home", str(tmp_path / "h"), "--quiet")
    asked = ("--set", "filter.paragraph_languages=true")
    made = json.loads(call("curate", str(source), *asked, "--json", *home).out)
    shown = call("curate", "--what-if", made["name"], *home).out
    assert "language of paragraphs" in shown and "a rule" not in shown
    answer = json.loads(call("curate", "--what-if", made["name"], "--json", *home).out)
    assert answer["paragraph_languages"] and answer["languages"]


def test_mistakes_are_one_line(call, source: Path, tmp_path: Path):
    home = ("--home", str(tmp_path / "h"))
    assert "fineweb" in call.mistake("curate", str(source), "--profile", "finweb", *home)
    assert "gopher_min_words" in call.mistake(
        "curate", str(source), "--profile", "gopher", "--set", "rules.gopher_min_wrds=1", *home
    )
    assert "email" in call.mistake("curate", str(source), "--set", "personal.emial=mask", *home)
    assert "thresholds" in call.mistake("curate", "--what-if", "x", "--set", "curate.split=hash", *home)
