"""Templates: what the model is asked, what it never sees, and that a file is read as it was written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.prompts.answer_rule import AnswerRule
from bloomery.adapt.prompts.template import (
    ExampleSettings,
    PromptTemplate,
    Shot,
    library_prompts,
    read_prompt,
    toml_of,
)
from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Sample

QUESTION = Sample(id="1", input="a fine film", targets=("positive",), choices=("negative", "positive"))
SHOWN = Sample(id="2", input="a bore", targets=("negative",), choices=("negative", "positive"))


def test_messages_in_order_and_targets_only_of_examples():
    template = PromptTemplate(name="t", system="Judge.", instruction="Which?", assistant="It is {{ answer }}.")
    assert template.messages(QUESTION, [SHOWN]) == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": "Which?\n\na bore"},
        {"role": "assistant", "content": "It is negative."},
        {"role": "user", "content": "Which?\n\na fine film"},
    ]


def test_plain_text_ends_where_the_answer_begins():
    template = PromptTemplate(name="t", user="Review: {{ input }}", assistant="Mood: {{ answer }}")
    assert template.text(QUESTION, [SHOWN]) == "Review: a bore\nMood: negative\n\nReview: a fine film\nMood:"
    assert template.continuations(QUESTION.choices) == (" negative", " positive")
    own = replace(template, plain="{% for e in examples %}{{ e.input }}={{ e.answer }};{% endfor %}{{ input }}= ")
    assert own.text(QUESTION, [SHOWN]) == "a bore=negative;a fine film="


def test_letters_stand_for_choices_in_questions_and_examples():
    rule = AnswerRule(take="choice", choices_as="letters", constrained=True)
    user = "{{ input }}{% for c in choices %} {{ c.name }}={{ c.text }}{% endfor %}"
    template = PromptTemplate(name="t", user=user, answer=rule)
    messages = template.messages(QUESTION, [SHOWN])
    assert [m["content"] for m in messages] == [
        "a bore A=negative B=positive",
        "A",
        "a fine film A=negative B=positive",
    ]
    assert template.chat_options(QUESTION).choices == ("A", "B")


def test_examples_within_the_template_are_no_turns():
    template = PromptTemplate(
        name="t",
        user="{% for e in examples %}{{ e.input }}: {{ e.answer }}. {% endfor %}{{ input }}",
        examples=ExampleSettings(as_turns=False),
    )
    assert [m["content"] for m in template.messages(QUESTION, [SHOWN])] == ["a bore: negative. a fine film"]


def test_passages_and_metadata_are_seen():
    template = PromptTemplate(name="t", user="{{ passages[0] }} {{ metadata.year }} {{ extra }}")
    sample = Sample(id="1", input="", metadata={"passages": ["one"], "year": 1999})
    assert template.messages(sample, extra="more")[0]["content"] == "one 1999 more"


def test_the_hash_tells_what_changes_a_question_and_nothing_else():
    one = PromptTemplate(name="t", instruction="Which?")
    assert replace(one, name="u", version=2, description="new").content_hash == one.content_hash
    others = [
        replace(one, instruction="Which one?"),
        replace(one, shots=(Shot(input="a", answer="b"),)),
        replace(one, answer=AnswerRule(take="line")),
        replace(one, options=replace(one.options, temperature=0.5)),
    ]
    assert len({one.content_hash, *(other.content_hash for other in others)}) == 5
    assert one.identity == f"t@1#{one.content_hash[:8]}"


def test_a_written_file_is_read_as_the_same_prompt(tmp_path):
    template = PromptTemplate(
        name="odd",
        version=3,
        instruction='Quotes " and \\ back\nslashes, \x7f and \u2028 \U0001f600',
        user="{{ input }}",
        answer=AnswerRule(take="json", key="a b", schema={"type": "object", "properties": {"a b": {"type": "string"}}}),
        shots=(Shot(input="x", answer="y", choices=("y", "z")), Shot(input="x2", answer="z", thinking="so")),
    )
    path = tmp_path / "prompt.toml"
    path.write_text(template.to_toml(), encoding="utf-8")
    assert read_prompt(path) == template
    assert read_prompt(tmp_path) == template  # the folder of an artifact


@pytest.mark.parametrize("name", library_prompts())
def test_the_library(name: str, tmp_path):
    template = read_prompt(name)
    assert template.name == name
    more = {"stage": "whole", "parts": (), "part": ""} if name == "parts" else {}
    for sample in (QUESTION, Sample(id="3", input="How many?", targets=("7",))):
        if template.answer.constrained and not sample.choices:
            continue
        asked = template.messages(sample, [SHOWN], **more)
        assert sample.input in str(asked[-1]["content"])
        assert template.text(sample, [SHOWN], **more) == template.text(sample, [SHOWN], **more).rstrip()
    path = tmp_path / "copy.toml"
    path.write_text(template.to_toml(), encoding="utf-8")
    assert read_prompt(path) == template


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('user = "{{ input }}"', 'missing key "name"'),
        ('name = "t"\nusre = ""', 'unknown key "usre"'),
        ('name = "t"\nuser = "{% if %}"', '"user" is no template'),
        ('name = "t"\nversion = 0', '"version"'),
        ('name = ""', '"name"'),
        ('name = "t"\n[examples]\ncount = -1', "examples.count"),
        ('name = "t"\n[options]\ntemperature = 9', "temperature"),
    ],
)
def test_files_that_are_no_prompt(text: str, message: str, tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_prompt(path)


def test_templates_run_in_the_sandbox():
    with pytest.raises(ConfigError, match="fails"):
        PromptTemplate(name="t", user="{{ input.__class__.__mro__ }}").messages(QUESTION)
    with pytest.raises(ConfigError, match="fails"):
        PromptTemplate(
            name="t", user="{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        ).messages(QUESTION)


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ConfigError) as error:
        read_prompt("clasify")
    assert "classify" in error.value.hint


def test_toml_of_tables_and_lists():
    import tomllib

    value = {"a": 1, "t": {"x y": [1.5, "z"], "deep": {"k": True}}, "rows": [{"a": "\t"}, {"b": []}]}
    assert tomllib.loads(toml_of(value)) == value


def test_a_name_that_nothing_stands_for_is_no_empty_text():
    sample = Sample(id="1", input="a")
    with pytest.raises(ConfigError, match="inptu") as raised:
        PromptTemplate(name="typo", user="{{ inptu }}").messages(sample)
    assert "input" in (raised.value.hint or "")
    own = "{% set n = 2 %}{% for one in range(2) %}{{ loop.index + n }}{% endfor %}{{ metadata.any }}{{ stage }}"
    assert PromptTemplate(name="fine", user=own).messages(sample)[0]["content"] == "34"


@pytest.mark.parametrize("instruction", ["Is it {{ nothere }} ham?", "{% if x %}Is it ham?{% endif %}"])
def test_an_instruction_is_no_template(instruction, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(toml_of({"name": "mine", "instruction": instruction}))
    with pytest.raises(ConfigError, match=r"instruction.*template marks") as caught:
        read_prompt(path)
    assert '"user"' in caught.value.hint
    path.write_text(toml_of({"name": "mine", "instruction": 'Answer as {"label": {}}'}))
    assert read_prompt(path).instruction.startswith("Answer")
