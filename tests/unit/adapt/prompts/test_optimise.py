"""The search finds what is better, never sees a test, stays within its budget, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.adapt.prompts.answer_rule import AnswerRule
from bloomery.adapt.prompts.optimise import OptimiseConfig, optimise, read_scores
from bloomery.adapt.prompts.template import PromptTemplate, read_prompt
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.evaluate.sample import Sample
from bloomery.evaluate.scorers import JsonSchema, make_scorer

CHOICES = ("even", "odd")
TEMPLATE = PromptTemplate(
    name="parity", instruction="Say something. Be brief.", answer=AnswerRule(take="choice"), version=4
)
GOOD = "Say whether the number is even or odd."


def numbers(start: int, count: int) -> list[Sample]:
    return [
        Sample(id=f"n{n}", input=f"number {n}", targets=(CHOICES[n % 2],), choices=CHOICES)
        for n in range(start, start + count)
    ]


TRAIN, DEV = numbers(0, 40), numbers(1000, 48)


def says(messages, options) -> str:
    """Knows parity only when asked well; more often with examples."""
    text = str(messages[-1]["content"])
    if text.startswith("I gave"):
        return GOOD if options.seed % 2 else "Do it."
    if text.startswith("Say this"):
        return "Speak."
    number = int(text.rsplit(" ", 1)[1])
    good = GOOD in text or (len(messages) > 1 and number % 3)
    return CHOICES[number % 2] if good else "even"


CONFIG = OptimiseConfig(instructions=4, rewordings=1, edits=1, example_sets=2, examples=2, tokens=100_000)


def search(model, home: Path, **changes):
    scorer = make_scorer("exact")
    config = OptimiseConfig(**{**{name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}, **changes})
    return optimise(TEMPLATE, model, TRAIN, DEV, scorer, config=config, workspace=Workspace(home))


def test_the_better_instruction_is_found_and_said_to_be_so(scripted, tmp_path):
    model = scripted(says)
    made = search(model, tmp_path)
    found, report = read_prompt(made.path), read_scores(made)
    assert GOOD in found.instruction and found.version == 5 and found.name == "parity"
    assert report["best"]["score"] == 1.0 and report["baseline"]["score"] == 0.5 and report["best"]["items"] == 48
    assert report["verdict"]["better"] == "the prompt found" and report["ended"] == "all was tried"
    asked = sum(len(str(m["content"]).split()) for messages, _ in model.asked for m in messages)
    assert report["tokens"] == asked + sum(len(says(m, o).split()) for m, o in model.asked)
    assert made.kind == "prompt" and made.metrics["dev_score"] == 1.0
    rows = [json.loads(line) for line in (made.path / "answers.jsonl").read_text().splitlines()]
    assert {row["sample"] for row in rows if row["prompt"] != "proposal"} == {one.id for one in DEV}


def test_the_same_again_asks_nothing_and_elsewhere_finds_the_same(scripted, tmp_path):
    first = search(scripted(says), tmp_path / "a")
    model = scripted(says)
    assert search(model, tmp_path / "a").id == first.id and not model.asked
    for concurrency in (1, 8):
        other = search(scripted(says), tmp_path / f"b{concurrency}", concurrency=concurrency)
        assert (other.path / "prompt.toml").read_text() == (first.path / "prompt.toml").read_text()
        same = ("best", "baseline", "standings", "tokens", "candidates")
        assert [read_scores(other)[name] for name in same] == [read_scores(first)[name] for name in same]


@pytest.mark.parametrize("after", [3, 40, 150])
def test_a_search_that_was_stopped_goes_on(scripted, tmp_path, after: int):
    whole = scripted(says)
    wanted = search(whole, tmp_path / "whole", concurrency=1)

    def stops(messages, options):
        if len(stopped.asked) > after:
            raise KeyboardInterrupt
        return says(messages, options)

    stopped = scripted(stops)
    with pytest.raises(KeyboardInterrupt):
        search(stopped, tmp_path / "stopped", concurrency=1)
    (log,) = (tmp_path / "stopped").rglob("scratch/*/answers.jsonl")
    with log.open("a") as file:
        file.write('{"prompt": "half a li')
    again = scripted(says)
    made = search(again, tmp_path / "stopped", concurrency=1)
    assert (made.path / "prompt.toml").read_text() == (wanted.path / "prompt.toml").read_text()
    assert read_scores(made) == read_scores(wanted)
    assert len(again.asked) + after == len(whole.asked)


@pytest.mark.parametrize("tokens", [2500, 4000, 6000])
def test_the_budget_is_kept(scripted, tmp_path, tokens: int):
    model = scripted(says)
    report = read_scores(search(model, tmp_path, tokens=tokens))
    assert report["tokens"] <= tokens and report["ended"] != "all was tried"
    asked = sum(len(str(m["content"]).split()) for messages, _ in model.asked for m in messages)
    assert asked + sum(len(says(m, o).split()) for m, o in model.asked) <= tokens
    assert sum(report["tokens_by"].values()) == report["tokens"]


def test_a_budget_too_small_for_a_look_is_an_error(scripted, tmp_path):
    with pytest.raises(ConfigError, match="first look"):
        search(scripted(says), tmp_path, tokens=20)


def test_where_nothing_is_better_the_given_prompt_is_kept(scripted, tmp_path):
    plain = {"instructions": 0, "rewordings": 0, "edits": 0}  # examples alone, which take more tokens
    report = read_scores(made := search(scripted(lambda messages, options: "even"), tmp_path, **plain))
    assert report["best"]["candidate"] == 0 and report["verdict"] is None
    assert read_prompt(made.path) == TEMPLATE


def test_train_and_dev_share_nothing_and_hold_something(scripted, tmp_path):
    model, scorer = scripted(says), make_scorer("exact")
    twins = [DEV[0], Sample(id=DEV[0].id, input="number 7", targets=("odd",), choices=CHOICES)]
    for train, dev in ((TRAIN, TRAIN[:3]), ([], DEV), (TRAIN, []), (TRAIN, twins)):
        with pytest.raises(ConfigError):
            optimise(TEMPLATE, model, train, dev, scorer, workspace=Workspace(tmp_path))
    with pytest.raises(ConfigError):
        OptimiseConfig(keep=1.0)
    with pytest.raises(ConfigError):
        OptimiseConfig(instructions=-1)


def test_other_weights_of_the_same_name_are_searched_anew(scripted, tmp_path):
    how = {"config": OptimiseConfig(instructions=0, rewordings=0, edits=0, example_sets=1), "workspace": tmp_path}
    scorer, model = make_scorer("exact"), scripted(says)
    asked = []
    for identity in ("a", "a", "b"):
        optimise(TEMPLATE, model, TRAIN, DEV, scorer, identity=identity, **how)
        asked.append(len(model.asked))
    assert asked[0] == asked[1] and asked[2] == 2 * asked[0]
    for schema in ({"type": "object"}, {"type": "array"}):  # one name, two scorers
        optimise(TEMPLATE, model, TRAIN, DEV, JsonSchema(schema=schema), **how)
        asked.append(len(model.asked))
    assert asked[4] > asked[3] > asked[2]


def test_a_model_that_tells_no_tokens_cannot_keep_a_budget(scripted, tmp_path):
    with pytest.raises(ConfigError, match="tokens"):
        search(scripted(says, usage=False), tmp_path)
