"""FilterConfig: mistakes are named when the config is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus.filter_config import FilterConfig


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"profile": "finweb"}, "finweb"),
        ({"rules": {"x": 1}}, "no profile"),
        ({"profile": "webtext"}, "links"),
        ({"profile": "gopher", "rules": {"gopher_min_word": 1}}, "gopher_min_word"),
        ({"profile": "gopher", "rules": {"gopher_min_words": "a"}}, "number"),
    ],
)
def test_mistakes(given: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        FilterConfig(**given)


def test_nothing_asked_is_nothing_done():
    assert not FilterConfig().active and not FilterConfig(languages=("de",)).active
    assert FilterConfig(identify=True).active and FilterConfig(profile="code").active


def test_which_languages_are_identified_and_wanted():
    assert FilterConfig(profile="fineweb").identifies and not FilterConfig(profile="gopher").identifies
    assert not FilterConfig(profile="fineweb", rules={"fineweb_language": "off"}).identifies
    assert FilterConfig(profile="fineweb").wanted_languages() == ("en",)
    assert FilterConfig(profile="mc4").wanted_languages() == ()
    assert FilterConfig(profile="mc4", languages=("hi",)).wanted_languages() == ("hi",)


def test_models_add_rules():
    rules = FilterConfig(classifier="c", scores="s.csv", rules={"classifier": 0.8}).applied()
    assert [rule.says() for rule in rules] == ["classifier >= 0.8", "score >= 0.5"]


def test_files_that_the_result_depends_on(tmp_path: Path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "en").write_text("drat")
    (tmp_path / "l.csv").write_text("url,score\n")
    config = FilterConfig(bad_words=str(tmp_path / "words"), links=str(tmp_path / "l.csv"), profile="webtext")
    assert config.files() == [tmp_path / "words" / "en", tmp_path / "l.csv"]


@pytest.mark.parametrize("key", ["bad_words", "links", "classifier", "scores"])
def test_what_is_not_there_is_named_with_its_key(key: str, tmp_path: Path):
    given: dict[str, Any]
    for name in (str(tmp_path / "none"), "x" * 300, "~no-such-user-here/x", "a\0b"):
        given = {key: name}
        with pytest.raises(ConfigError, match=rf"filter\.{key}: ") as caught:
            FilterConfig(**given).files()
        assert "\n" not in caught.value.one_line() and caught.value.hint
    if key != "bad_words":  # a folder with lists of other languages says nothing, and is no mistake
        given = {key: str(tmp_path)}
        with pytest.raises(ConfigError, match="is no such thing"):
            FilterConfig(**given).files()
