"""Labelling functions of files and of Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus.annotation.label_functions import (
    ABSTAIN,
    DeclaredFunction,
    LabelFunction,
    RuleSet,
    label_function,
    read_rules,
)
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.document import Document

QUESTION = Question(name="spam", kind="choice", instruction="Spam?", labels=("ham", "spam"))
HEAD = 'name = "spam"\nkind = "choice"\ninstruction = "Spam?"\nlabels = ["ham", "spam"]\n'


def fires(text: str, metadata: dict[str, Any] | None = None, **conditions: Any) -> bool:
    function = DeclaredFunction(name="f", label="spam", **conditions).compiled()
    said = function(Document.of(text, "s", metadata))
    assert said in (None, "spam")
    return said == "spam"


@pytest.mark.parametrize(
    "text, conditions, wanted",
    [
        ("You have WON a prize", {"keywords": ("won", "free")}, True),
        ("wonderful freedom", {"keywords": ("won", "free")}, False),
        ("only £5 now", {"keywords": ("£",)}, True),
        ("reply\nNOW please", {"keywords": ("reply now",)}, True),
        ("free", {"keywords": ("Free",), "case": True}, False),
        ("call 08001234567", {"regex": r"\d{5,}"}, True),
        ("free, free", {"keywords": ("free",), "unless_keywords": ("birds",)}, True),
        ("free as birds", {"keywords": ("free",), "unless_keywords": ("birds",)}, False),
        ("free 3", {"keywords": ("free",), "unless_regex": r"\d"}, False),
        ("one two three", {"max_words": 3}, True),
        ("one two three four", {"max_words": 3}, False),
        ("one two", {"min_words": 3}, False),
        ("", {"max_words": 0}, True),
        ("abcd", {"min_characters": 4, "max_characters": 4}, True),
        ("abcde", {"max_characters": 4}, False),
        ("free and long enough", {"keywords": ("free",), "min_words": 10}, False),
    ],
)
def test_conditions(text: str, conditions: dict[str, Any], wanted: bool):
    assert fires(text, **conditions) is wanted


def test_metadata():
    meta = {"site": {"name": "Example.org"}, "year": 2005}
    assert fires("x", meta, field="site.name", equals=("example.org",))
    assert not fires("x", meta, field="site.name", equals=("example.org",), case=True)
    assert fires("x", meta, field="year", matches="^20")
    assert not fires("x", meta, field="none", matches=".")


@pytest.mark.parametrize(
    "conditions",
    [{}, {"unless_regex": "x"}, {"field": "a"}, {"equals": ("a",)}, {"keywords": ("",)}, {"regex": "("}],
)
def test_functions_that_are_none(conditions: dict[str, Any]):
    with pytest.raises(ConfigError):
        DeclaredFunction(name="f", label="spam", **conditions).compiled()


def test_python_functions_vote_too():
    @label_function
    def shouts(document: Document) -> str | None:
        return "spam" if document.text.isupper() else None

    quiet = LabelFunction("quiet", lambda document: "ham" if document.text.islower() else None)
    rules = RuleSet(QUESTION, (shouts, quiet))
    votes = rules.votes([Document.of(one, "s") for one in ("LOUD", "soft", "Both")])
    assert votes.tolist() == [[1, ABSTAIN], [ABSTAIN, 0], [ABSTAIN, ABSTAIN]]
    assert rules.votes([]).shape == (0, 2)
    wrong = RuleSet(QUESTION, (LabelFunction("wrong", lambda document: "eggs"),))
    with pytest.raises(ConfigError, match='"wrong" gives the label'):
        wrong.votes([Document.of("x", "s")])


def test_names_are_their_own_and_answers_are_choices():
    one = LabelFunction("f", lambda document: None)
    for functions in ((), (one, one)):
        with pytest.raises(ConfigError, match="name of its own"):
            RuleSet(QUESTION, functions)
    text = Question(name="t", kind="text", instruction="?")
    with pytest.raises(ConfigError, match='"choice"'):
        RuleSet(text, (one,))


def test_a_file(tmp_path: Path):
    path = tmp_path / "rules.toml"
    path.write_text(HEAD + '[[function]]\nname = "free"\nlabel = "spam"\nkeywords = ["free"]\n')
    rules = read_rules(path)
    assert rules.question == QUESTION and rules.votes([Document.of("FREE", "s")]).tolist() == [[1]]
    before = rules.digest
    path.write_text(HEAD + '[[function]]\nname = "free"\nlabel = "spam"\nkeywords = ["freed"]\n')
    assert read_rules(path).digest != before


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "declares no"),
        ("function = 3\n", "declares no"),
        ("function = [3]\n", "a function is a table"),
        ('[[function]]\nname = "f"\nlabel = "span"\nregex = "x"\n', "gives the label"),
        ('[[function]]\nname = "f"\nlabel = "spam"\nregx = "x"\n', "unknown key"),
        ('[[function]]\nname = "f"\nlabel = "spam"\nregex = "("\n', "pattern"),
    ],
)
def test_files_that_are_none_are_named(tmp_path: Path, text: str, said: str):
    (tmp_path / "rules.toml").write_text(HEAD + text)
    with pytest.raises(ConfigError, match=rf"rules\.toml.*{said}"):
        read_rules(tmp_path / "rules.toml")
