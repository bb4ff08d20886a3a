"""Rewards: numbers as GSM8K's answers have them, forms, JSON of a schema; no reward raises for an odd answer."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import pytest

from bloomery.adapt.reinforcement.rewards import all_rewards, exact, number, reward_named, target_of
from bloomery.core.errors import ConfigError, DataError

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).parents[5] / "shared" / "data") / "eval"


def test_numbers_are_equal_however_they_are_written():
    assert number("so it is 18.0", {"answer": "9 * 2 = 18\n#### 18"}) == 1.0
    assert number("12\n#### -3", {"answer": "-3"}) == number("#### 5 apples, not 6", {"answer": 5}) == 1.0
    assert number("so it is 19", {"answer": 18}) == 0.0 and number("", {"answer": 18}) == 0.0
    assert exact(" 18\n", {"target": 18}) == 1.0 and exact("18.0", {"target": 18}) == 0.0
    with pytest.raises(DataError, match="prompt"):
        target_of({"prompt": "a"})


def test_forms_are_of_the_whole_answer():
    form = reward_named("pattern:<think>.*</think>\\s*\\d+")
    assert form.score("<think>a\nb</think> 5\n", {}) == 1.0 and form.score("x <think>a</think> 5", {}) == 0.0


def test_json_of_a_schema_of_the_config_or_of_the_row(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}))
    score = reward_named(f"json:{path}").score
    assert [score(text, {}) for text in ('{"a": 1}', '{"a": "1"}', "{}", "nonsense", "[" * 100_000)] == [1, 0, 0, 0, 0]
    assert score("[1]", {"schema": {"type": "array"}}) == 1.0
    assert reward_named("json").score("{}", {}) == 1.0
    elsewhere = {"$ref": "http://localhost:1/never-asked.json"}
    for wrong in (elsewhere, {"type": "nothing"}):  # a mistake of the data: worth 0 it would be learnt from
        with pytest.raises(ConfigError, match="schema"):
            score("[1]", {"schema": wrong})


@pytest.mark.parametrize(
    ("spec", "name", "weight"),
    [
        ("number", "number", 1.0),
        ("exact*0.5", "exact", 0.5),
        ("pattern:a*", "pattern:a*", 1.0),
        ("pattern:a**2", "pattern:a*", 2.0),
    ],
)
def test_how_a_config_spells_them(spec, name, weight):
    made = reward_named(spec)
    assert (made.name, made.weight) == (name, weight)


@pytest.mark.parametrize("spec", ["numbr", "number:5", "pattern:(", "pattern:", "json:/none.json", ""])
def test_what_is_no_reward(spec):
    with pytest.raises(ConfigError):
        reward_named(spec)


def test_two_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="same name"):
        all_rewards(["exact", "exact*2"])


@pytest.mark.skipif(not DATA.is_dir() and not os.environ.get("CI"), reason="needs the shared data")
def test_gsm8k_s_own_solutions_are_right_by_number():
    (path,) = list(DATA.glob("gsm8k_train*"))[:1] or list(DATA.glob("*gsm8k*"))[:1]
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    rows = [json.loads(line) for line in raw.splitlines()[:300]]
    assert all(number(row["answer"], row) == 1.0 for row in rows)
    assert sum(number(row["question"], row) for row in rows) < 30
