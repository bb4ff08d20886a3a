"""Strategies: which calls they make, how the answer comes of them, and what is kept."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bloomery.adapt.prompts.answer_rule import AnswerRule
from bloomery.adapt.prompts.strategies import (
    KINDS,
    StrategyConfig,
    counted,
    listed,
    open_strategy,
)
from bloomery.adapt.prompts.template import PromptTemplate, Shot, read_prompt
from bloomery.core.errors import ConfigError, RequestError
from bloomery.evaluate.sample import Sample

QUESTION = Sample(id="1", input="2 + 2?", targets=("4",), choices=("3", "4"))
THINK = PromptTemplate(name="t", answer=AnswerRule(take="choice", marker="Answer:"))


def test_direct_is_one_call_with_a_seed_of_its_own(scripted):
    model = scripted(lambda messages, options: "It is 4.")
    arm = open_strategy(PromptTemplate(name="t", answer=AnswerRule(take="choice")), model)
    found = arm.answer(QUESTION)
    assert found.text == "4" and len(found.calls) == 1 and found.confidence is None
    assert arm.answer(Sample(id="2", input="?", choices=("3", "4"))).text == "4"
    seeds = [options.seed for _, options in model.asked]
    assert len(set(seeds)) == 2 and model.asked[0][1].temperature == 0
    assert "scripted" in arm.name and "t@1#" in arm.name


def test_choices_and_schemas_are_handed_to_the_model(scripted):
    model = scripted(lambda messages, options: options.choices[0] if options.choices else '{"n": 4}')
    rule = AnswerRule(take="choice", constrained=True)
    assert open_strategy(PromptTemplate(name="t", answer=rule), model).answer(QUESTION).text == "3"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    rule = AnswerRule(take="json", key="n", schema=schema)
    assert open_strategy(PromptTemplate(name="t", answer=rule), model).answer(QUESTION).text == "4"
    assert model.asked[1][1].schema == schema


def test_thinking_is_kept_and_no_answer(scripted):
    model = scripted(lambda messages, options: "two and two\nAnswer: 4")
    found = open_strategy(THINK, model, StrategyConfig(kind="thought")).answer(QUESTION)
    assert found.text == "4" and found.details["thinking"].startswith("two and two") and len(found.calls) == 1


def test_thinking_without_an_answer_is_asked_for_it(scripted):
    model = scripted(lambda messages, options: "4" if options.choices else "hm")
    found = open_strategy(THINK, model, StrategyConfig(kind="thought")).answer(QUESTION)
    assert found.text == "4" and len(found.calls) == 2
    messages, options = model.asked[1]
    assert options.choices == ("3", "4") and [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == "hm" and messages[2]["content"] == "Therefore, the answer is"
    assert found.prompt_tokens == sum(len(m["content"].split()) for asked, _ in model.asked for m in asked)


def test_votes_are_drawn_with_seeds_and_counted(scripted):
    said = iter(["Answer: 3", "hm", "Answer: 4", "Answer: 4", "Answer: 3", "Answer: 4", "Answer: 4", "hm"])
    model = scripted(lambda messages, options: next(said))
    found = open_strategy(THINK, model, StrategyConfig(kind="votes", votes=8)).answer(QUESTION)
    assert found.text == "4" and found.confidence == 0.5 and found.details["votes"] == {"4": 4, "3": 2}
    assert len({options.seed for _, options in model.asked}) == 8
    assert {options.temperature for _, options in model.asked} == {0.7}
    assert found.energy_joules.central == 16.0 and len(found.calls) == 8


def test_votes_are_the_most_common_of_the_standard_library():
    rng = random.Random(0)
    for _ in range(200):
        answers = [rng.choice(["a", "b", "c", None]) for _ in range(rng.randint(1, 9))]
        text, share, votes = counted(answers)
        kept = Counter(a for a in answers if a is not None)
        assert votes == dict(kept) and (text is None) == (not kept)
        if text is not None:
            assert kept[text] == max(kept.values()) and share == kept[text] / len(answers)


def routed(scripted, threshold: float):
    """Votes: 3, 3, 4, 4, 4 (three fifths for 4); greedy: 3."""
    said = iter(["3", "3", "4", "4", "4"])
    model = scripted(lambda messages, options: "Answer: " + (next(said) if options.temperature else "3"))
    return open_strategy(THINK, model, StrategyConfig(kind="routed", votes=5, threshold=threshold))


def test_the_vote_is_taken_from_the_threshold_on_and_the_greedy_thought_below(scripted):
    found = routed(scripted, 0.6).answer(QUESTION)
    assert (found.text, found.confidence, found.details["route"], len(found.calls)) == ("4", 0.6, "vote", 5)
    found = routed(scripted, 0.61).answer(QUESTION)
    assert (found.text, found.confidence, found.details["route"], len(found.calls)) == ("3", 0.4, "greedy", 6)


def test_parts_are_answered_one_after_the_other(scripted):
    def says(messages, options):
        text = messages[-1]["content"]
        if "smaller questions" in text:
            return "1. How much is 1 + 1?\n- How much is 2 + 1?"
        if "Answer:" in text:
            assert "Q: How much is 1 + 1?\nA: two" in text and "A: three" in text
            return "so\nAnswer: 4"
        return "three" if "2 + 1" in text.rsplit("Q:", 1)[1] else "two"

    model = scripted(says)
    found = open_strategy(read_prompt("parts"), model, StrategyConfig(kind="parts")).answer(QUESTION)
    assert found.text == "4" and len(found.calls) == 4
    assert found.details["parts"][1] == {"question": "How much is 2 + 1?", "answer": "three"}


def test_plain_text_is_one_message_that_ends_where_the_answer_begins(scripted):
    template = PromptTemplate(
        name="t", user="{{ input }}", assistant="A: {{ answer }}", shots=(Shot(input="1 + 1?", answer="2"),)
    )
    model = scripted(lambda messages, options: " 4")
    found = open_strategy(template, model, StrategyConfig(plain=True)).answer(Sample(id="1", input="2 + 2?"))
    assert found.text == "4"
    assert model.asked[0][0] == [{"role": "user", "content": "1 + 1?\nA: 2\n\n2 + 2?\nA:"}]
    assert model.asked[0][1].stop == ("\n\n",)


def test_errors_of_a_sample_are_its_own_and_those_of_all_are_raised(scripted):
    def failing(status: int):
        def says(messages, options):
            raise RequestError("too long", status=status)

        return scripted(says)

    for kind in KINDS:
        template = read_prompt("parts") if kind == "parts" else THINK
        found = open_strategy(template, failing(400), StrategyConfig(kind=kind)).answer(QUESTION)
        assert found.text == "" and "too long" in found.error
        with pytest.raises(RequestError):
            open_strategy(template, failing(404), StrategyConfig(kind=kind)).answer(QUESTION)


@pytest.mark.parametrize(
    "wrong", [{"votes": 0}, {"kind": "votes", "temperature": 0.0}, {"threshold": 1.5}, {"max_parts": 0}]
)
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(ConfigError):
        StrategyConfig(**wrong)


def test_what_does_not_go_together(scripted):
    model = scripted(lambda messages, options: "")
    with pytest.raises(ConfigError, match="think"):
        open_strategy(read_prompt("classify"), model, StrategyConfig(kind="votes"))
    with pytest.raises(ConfigError, match="stage"):
        open_strategy(THINK, model, StrategyConfig(kind="parts"))


def test_lists_lose_bullets_and_numbers():
    assert listed("1. a b\n2) c\n- d\n\n* 3 dogs?\n---\n- 4. e\n1.5 litres?") == [
        "a b",
        "c",
        "d",
        "3 dogs?",
        "e",
        "1.5 litres?",
    ]
