"""Templates: white space as it stands, Jinja's own values, and nothing that a stranger's task file could do."""

from __future__ import annotations

import jinja2
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.tasks.template import text_of, value_of

ROW = {"question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}


@pytest.mark.parametrize(
    "source",
    ["Question: {{ question }}\nAnswer:\n", "  {% if question %}\n x{% endif %}\n", "{{ choices.text | join(', ') }}"],
)
def test_texts_are_those_of_jinja(source: str):
    expected = jinja2.Environment(keep_trailing_newline=True, autoescape=False).from_string(source).render(**ROW)  # noqa: S701
    assert text_of(source, ROW, where="here") == expected


def test_values():
    assert value_of("choices.label.index(answerKey)", ROW, where="here") == 1
    assert value_of("choices.text", ROW, where="here") == ["a", "b"]
    assert value_of("[0, 1, 1] | places_of(1)", ROW, where="here") == [1, 2]
    assert value_of("'a <b> é'", ROW, where="here") == "a <b> é"


def test_a_row_that_does_not_fit_is_told_with_its_place():
    for expression in ("nothing", "choices.label.index('C')", "question.nothing.at.all"):
        with pytest.raises(DataError, match=r"mine\.jsonl:3") as caught:
            value_of(expression, ROW, where="mine.jsonl:3")
        assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize("source", ["{{ question", "{% for %}", "{{ question | no_such_filter }}"])
def test_what_is_no_template(source: str):
    with pytest.raises(ConfigError):
        text_of(source, ROW, where="here")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ 'a' * 100000000 }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_strangers_template_does_no_harm(source: str):
    with pytest.raises((DataError, ConfigError)):
        text_of(source, ROW, where="here")
