"""The registry: names and tables as task files have them; mistakes are told before anything is asked."""

from __future__ import annotations

import sys
import tomllib

import pytest

from bloomery.core.errors import ConfigError, MissingExtraError
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers import CorpusScorer, add_scorer, make_scorer, scorer_names
from bloomery.evaluate.scorers import registry as module


def test_from_toml():
    table = tomllib.loads(
        'scorers = ["exact", "choice", "f1", {name = "numeric", tolerance = 0.01}, "includes", '
        '{name = "json_schema", schema = {type = "object"}}, "bleu", "chrf++", "rougeL"]'
    )
    made = [make_scorer(one) for one in table["scorers"]]
    assert [one.name for one in made][:5] == ["exact", "choice", "f1", "numeric (within 0.01)", "exact (within)"]
    assert isinstance(made[6], CorpusScorer) and not isinstance(made[0], CorpusScorer)
    assert made[7].name == "chrf++" and "rougeLsum" in scorer_names()


@pytest.mark.parametrize(
    "spec, words",
    [
        ("exakt", 'did you mean "exact"'),
        ({"tolerance": 1}, "no scorer"),
        ({"name": "numeric", "tolerence": 1}, 'did you mean "tolerance"'),
        ({"name": "numeric", "tolerance": "much"}, "tolerance"),
        ({"name": "code", "_sandbox": 1}, "unknown key"),
        ({"name": "similarity", "embed": 1}, "unknown key"),
        ({"name": "similarity"}, "encoder"),
        ({"name": "rougeL", "kind": "rouge9"}, "rouge"),
        ({"name": "pattern"}, "pattern"),
    ],
)
def test_mistakes(spec: object, words: str):
    with pytest.raises(ConfigError) as caught:
        make_scorer(spec)  # type: ignore[arg-type]
    assert words in caught.value.one_line()


def test_what_is_not_installed_is_told_with_the_pip_line(monkeypatch: pytest.MonkeyPatch):
    from bloomery.evaluate.scorers import overlap

    overlap._bleu.cache_clear()
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtraError) as caught:
        make_scorer("bleu")
    assert 'pip install "bloomery[evaluate]"' in caught.value.one_line()


class Longer:
    """Right if it is longer than so many characters."""

    def __init__(self, least: int) -> None:
        self.least, self.name = least, "longer"

    def score(self, sample: Sample, answered: Answered) -> Score:
        return Score(sample_id=sample.id, scorer=self.name, value=float(len(answered.text) > self.least))


def test_ones_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MORE", {})
    add_scorer("longer", lambda table: Longer(int(table["least"])))
    made = make_scorer({"name": "longer", "least": 2})
    assert made.score(Sample(id="s", input=""), Answered(sample_id="s", text="abc")).value == 1
    for taken in ("longer", "exact"):
        with pytest.raises(ConfigError, match="already"):
            add_scorer(taken, lambda table: Longer(1))
