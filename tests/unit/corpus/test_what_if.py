"""What if: the answer is what curating again with the moved thresholds gives."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, FilterConfig, curate, read_documents
from bloomery.corpus.what_if import what_if


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


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("s") / "a.jsonl"
    rows = []
    for n in range(60):
        lines = _made(n, n % 5 + 1).split("\n")
        lines += [f"Menu {n} {line}" for line in range(n % 7)] + [f"A few words {n}." for _ in range(n % 3)]
        rows.append({"text": "\n".join(lines), "url": f"https://site{n % 4}.org/{n}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _curated(workspace: Workspace, source: Path, profile: str, moved: dict[str, Any] | None = None) -> Artifact:
    rules = {"c4_language": "off"} if profile.startswith("c4") else {}
    config = FilterConfig(profile=profile, rules={**rules, **(moved or {})})
    return curate(
        source, config=CurateConfig(filter=config, metadata_fields=("url",), decontaminate_words=0), workspace=workspace
    )


@pytest.mark.parametrize(
    ("profile", "moved"),
    [
        ("gopher", {"gopher_min_words": 60}),
        ("gopher", {"gopher_min_words": "off", "gopher_repeated_5_words": 0.05}),
        ("c4-tfds", {"c4_sentences": 6}),
        ("c4-tfds", {"c4_line_words": 3}),
        ("c4-tfds", {"c4_terminal": "off", "c4_line_words": 4}),
    ],
)
def test_it_is_what_curating_again_gives(workspace: Workspace, source: Path, profile: str, moved: dict[str, Any]):
    before, after = _curated(workspace, source, profile), _curated(workspace, source, profile, moved)
    answer = what_if(before, moved)
    for tally, corpus in ((answer.now, before), (answer.then, after)):
        duplicates = corpus.metrics["dropped"].get("duplicate", 0)
        assert tally.documents == sum(corpus.metrics["documents"].values()) + duplicates
        if not duplicates:
            assert tally.text_bytes == sum(corpus.metrics["text_bytes"].values())
    first = {rule.rule: rule.first for rule in answer.rules if any(rule.first)}
    for side, corpus in enumerate((before, after)):
        dropped = {name: n for name, n in corpus.metrics["dropped"].items() if name != "duplicate"}
        assert {name: counts[side] for name, counts in first.items() if counts[side]} == dropped


def test_languages_sites_and_samples(workspace: Workspace, source: Path):
    answer = what_if(_curated(workspace, source, "gopher"), {"gopher_min_words": 30}, bytes_per_token={"": 2.0})
    assert answer.documents == 60 and set(answer.sites) == {f"site{n}.org" for n in range(4)}
    assert sum(then.documents for _, then in answer.sites.values()) == answer.then.documents > answer.now.documents
    assert answer.then.tokens == answer.then.text_bytes / 2
    rule = next(rule for rule in answer.rules if rule.rule == "gopher_min_words")
    assert (rule.now, rule.then) == (">= 50", ">= 30")
    assert rule.samples and all(s["fate"] == "kept then" and 30 <= s["score"] < 50 for s in rule.samples)
    data = json.loads(json.dumps(answer.to_dict()))
    assert data["tokens_are"] == "estimated" and data["then"]["documents"] == answer.then.documents


def test_languages_of_paragraphs(workspace: Workspace, tmp_path: Path):
    pytest.importorskip("py3langid")
    german = "Das Wetter war schön, und alle gingen nach der langen Sitzung gemeinsam an den Fluss, Nummer {}."
    rows = [_made(n, n % 3 + 1) + (f"\n\n{german.format(n)}" if n % 4 == 0 else "") for n in range(24)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    for profile, moved in (("", {}), ("gopher", {"gopher_min_words": 30})):
        config = CurateConfig(filter=FilterConfig(profile=profile, paragraph_languages=True), decontaminate_words=0)
        corpus = curate(path, config=config, workspace=workspace)
        kept: dict[str, list[int]] = {}
        for split in ("train", "validation", "test"):
            for document in read_documents(corpus, split):
                sizes: Counter[str] = Counter()
                for language, _, size in document.metadata["paragraph_languages"]:
                    sizes[language] += size
                for language, size in sizes.items():
                    kept.setdefault(language, [0, 0])
                    kept[language] = [kept[language][0] + 1, kept[language][1] + size]
        answer = what_if(corpus, moved)
        now = {name: [now.documents, now.characters] for name, (now, _) in answer.paragraph_languages.items()}
        assert {name: counts for name, counts in now.items() if counts[0]} == kept
        assert 0 < kept["de"][0] <= 6
        then = sum(then.characters for _, then in answer.paragraph_languages.values())
        assert (
            then > sum(count for _, count in now.values()) if moved else then == sum(count for _, count in now.values())
        )
    assert not what_if(_curated(workspace, path, "gopher"), {}).paragraph_languages


def test_what_cannot_be_asked(workspace: Workspace, source: Path):
    corpus = _curated(workspace, source, "fineweb", {"fineweb_language": "off"})
    with pytest.raises(ConfigError, match="measured what it left"):
        what_if(corpus, {"c4_line_words": 5})
    with pytest.raises(ConfigError, match="no rule"):
        what_if(corpus, {"c4_wrong": 5})
    plain = curate(source, config=CurateConfig(decontaminate_words=0), workspace=workspace)
    with pytest.raises(ConfigError, match="no scores"):
        what_if(plain, {})
