"""Dev samples are asked in one seeded order, each prompt's once; what was kept is not asked again."""

from __future__ import annotations

from bloomery.adapt.prompts.strategies import StrategyConfig
from bloomery.adapt.prompts.template import PromptTemplate
from bloomery.adapt.prompts.trials import Trials
from bloomery.core.errors import RequestError
from bloomery.core.messages import ChatOptions
from bloomery.evaluate.sample import Sample
from bloomery.evaluate.scorers import make_scorer

DEV = [Sample(id=str(n), input=str(n), targets=(str(n % 2),)) for n in range(10)]
ONE = PromptTemplate(name="t")


def made(model, log, tokens: int = 10_000, seed: int = 0) -> Trials:
    return Trials(model, DEV[:1], DEV, make_scorer("exact"), StrategyConfig(), log, tokens=tokens, seed=seed)


def test_kept_and_not_asked_again(scripted, tmp_path):
    model = scripted(lambda messages, options: "1")
    trials = made(model, tmp_path / "log")
    assert trials.judged(ONE, 4) is not None and len(model.asked) == 4
    score, tokens = trials.judged(ONE, 10) or (0, 0)
    assert score == 0.5 and tokens == 2 and len(model.asked) == 10 and trials.tokens == 20
    assert trials.scores(ONE, 10) == [float(one.targets == ("1",)) for one in trials.dev]
    again = made(model, tmp_path / "log")
    assert again.judged(ONE, 10) == (0.5, 2.0) and len(model.asked) == 10 and again.tokens == 20


def test_orders_are_of_the_seed(scripted, tmp_path):
    model = scripted(lambda messages, options: "1")
    orders = [[one.id for one in made(model, tmp_path / "log", seed=seed).dev] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == sorted(orders[0])


def test_proposals_are_asked_once(scripted, tmp_path):
    model = scripted(lambda messages, options: "two words")
    trials = made(model, tmp_path / "log")
    messages = [{"role": "user", "content": "a b"}]
    assert trials.proposal("x", messages, ChatOptions()) == trials.proposal("x", messages, ChatOptions())
    assert len(model.asked) == 1 and trials.spent_by() == {"proposals": 4, "judging": 0}


def test_a_sample_that_fails_scores_nothing_and_is_kept(scripted, tmp_path):
    def says(messages, options):
        if messages[0]["content"] == "3":
            raise RequestError("too long", status=400)
        return str(int(messages[0]["content"]) % 2)

    trials = made(scripted(says), tmp_path / "log")
    assert trials.judged(ONE, 10) == (0.9, 1.8)


def test_what_cannot_be_paid_is_not_begun(scripted, tmp_path):
    model = scripted(lambda messages, options: "1")
    trials = made(model, tmp_path / "log", tokens=2000)
    assert trials.judged(ONE, 10) is not None
    trials._limit = trials.tokens + 5
    other = PromptTemplate(name="t", instruction="other")
    assert trials.judged(other, 10) is None and "needed" in trials.ended and len(model.asked) == 10
