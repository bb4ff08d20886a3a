"""Judge pairs: which of two answers a judge prefers, asked in both orders.

A judge that prefers what stands first, whatever it is, changes its mind with the order: such flips are ties, and how
far it leans to a place, to the longer answer, and how often it says the same twice is reported beside the result (Zheng
and others, arXiv 2306.05685; Wang and others, arXiv 2305.17926). This module does not know where answers come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bloomery.core.asking import ask_all
from bloomery.core.budget import BudgetError
from bloomery.core.errors import DataError
from bloomery.core.messages import ChatModel, ChatOptions, Message
from bloomery.core.quantity import Quantity
from bloomery.evaluate.judge import JudgeConfig, asked, marked, options_of, read_verdict, rubric_of, tokens_of
from bloomery.evaluate.judge_calibration import THRESHOLD, Calibration, calibrate
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.statistics import Interval, Verdict, compare_pair, rate

Side = Literal["a", "b", "tie"]
WORDS = ("first", "second", "tie")
_Key = tuple[int, bool, int]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One sample. `shown_first` and `shown_second` are what the judge preferred with A first and with A second; None
    where it said nothing in form. `winner`: what both say; a flip is a tie; None where either has no form."""

    sample_id: str
    winner: Side | None
    shown_first: Side | None
    shown_second: Side | None
    repeats: tuple[Side | None, ...] = ()
    """What it said when it was asked again with A first, with other seeds."""
    error: str = ""

    @property
    def flipped(self) -> bool:
        return {self.shown_first, self.shown_second} == {"a", "b"}

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "repeats": list(self.repeats), "flipped": self.flipped}


@dataclass(frozen=True, kw_only=True)
class PairReport:
    """`first_place`: of the judgements that name a side, the share that names what was shown first; .5 is no bias.
    `consistency`: share of samples on which both orders agree. `self_consistency`: share of questions asked again that
    got the same answer; None where nothing was. `longer`: of the decided samples, the share that the longer answer
    won."""

    preferences: tuple[Preference, ...]
    verdict: Verdict | None
    wins_a: int
    wins_b: int
    ties: int
    flips: int
    without_form: int
    first_place: Interval | None
    consistency: Interval | None
    self_consistency: Interval | None
    longer: Interval | None
    calibration: Calibration
    tokens: int | None
    seconds: float
    energy_joules: Quantity

    def sentence(self) -> str:
        """One line for people; never without what the judge is worth."""
        said = "too few judgements in form" if self.verdict is None else self.verdict.sentence()
        lean = "" if self.first_place is None else f" It names the first {self.first_place.text(2)} of the time;"
        count = f"{self.wins_a:,} to {self.wins_b:,}, {self.ties:,} ties of which {self.flips:,} flips"
        form = f", {self.without_form:,} without form" if self.without_form else ""
        return f"{said} The judge: {count}{form}.{lean} {self.calibration.text()}."

    def to_dict(self) -> dict[str, Any]:
        whole = {name: one and one.to_dict() for name, one in vars(self).items() if hasattr(one, "to_dict")}
        listed = [one.to_dict() for one in self.preferences]
        return {**vars(self), **whole, "preferences": listed, "sentence": self.sentence()}


def judge_pairs(
    model: ChatModel,
    samples: Sequence[Sample],
    a: Sequence[Answered],
    b: Sequence[Answered],
    *,
    config: JudgeConfig | None = None,
    names: tuple[str, str] = ("A", "B"),
    repeats: int = 0,
    labels: Mapping[str, Side] | None = None,
    threshold: float = THRESHOLD,
    concurrency: int = 1,
) -> PairReport:
    """Both answers to each sample, in both orders, `concurrency` questions at a time. `repeats` asks the first order so
    often again, with other seeds and `config.temperature`. `labels` are what people prefer, by sample id.

    An answer that failed or is empty loses to one that did not, without the judge. DataError where answers do not
    belong to the samples, BudgetError where the judge's budget is spent.
    """
    config = config or JudgeConfig(rubric="Which answer is better?")
    for answers in (a, b):
        if [one.sample_id for one in answers] != [one.id for one in samples]:
            raise DataError("each sample needs an answer of either, in the same order")
    said: dict[_Key, Side | None] = {}
    errors: dict[int, str] = {}
    tokens: int | None = 0
    seconds, joules = 0.0, Quantity.exact(0.0, "counter")
    for attempt in range(config.attempts):
        questions = _questions(samples, a, b, config, repeats, said, attempt)
        for one in ask_all(model, questions, concurrency=concurrency):
            if isinstance(one.error, BudgetError):
                raise one.error
            if one.answer is None:
                errors[one.key[0]] = one.error.one_line() if one.error else ""
                said.setdefault(one.key, None)
                continue
            used = tokens_of(one.answer)
            tokens = tokens + used if tokens is not None and used is not None else None
            seconds, joules = seconds + one.answer.seconds, joules + one.answer.usage.energy_joules
            said[one.key] = _side(read_verdict(one.answer.text, WORDS)[0], a_first=one.key[1])
    found = [_preference(n, sample, a[n], b[n], said, repeats, errors) for n, sample in enumerate(samples)]
    cost = {"tokens": tokens, "seconds": seconds, "energy_joules": joules}
    return _report(found, a, b, names, labels or {}, threshold, cost)


def _questions(
    samples: Sequence[Sample],
    a: Sequence[Answered],
    b: Sequence[Answered],
    config: JudgeConfig,
    repeats: int,
    said: Mapping[_Key, Side | None],
    attempt: int,
) -> Iterator[tuple[_Key, Sequence[Message], ChatOptions]]:
    """Everything that has no answer in form yet, nor an error."""
    for n, sample in enumerate(samples):
        if _walkover(a[n], b[n]) is not None:
            continue
        for a_first, again in [(True, 0), (False, 0), *((True, number + 1) for number in range(repeats))]:
            key = (n, a_first, again)
            if said.get(key) is None and (attempt == 0 or key in said):
                first, second = (a[n].text, b[n].text) if a_first else (b[n].text, a[n].text)
                parts = [marked("question", sample.input)]
                if config.show_targets and sample.targets:
                    parts += [marked("right answer", target) for target in sample.targets]
                parts += [marked("first answer", first), marked("second answer", second)]
                parts += ["Which answer is better, by this rubric?", rubric_of(sample, config.rubric)]
                seed = config.seed + 1000 * again + attempt
                yield key, asked(parts, WORDS, reason=config.reason), options_of(WORDS, config, seed)


def _side(word: str | None, *, a_first: bool) -> Side | None:
    if word is None or word == "tie":
        return "tie" if word else None
    return "a" if (word == "first") == a_first else "b"


def _walkover(a: Answered, b: Answered) -> Side | None:
    """Decided without a judge: one of them has no answer, or both have the same."""
    there_a, there_b = bool(a.text.strip()) and not a.error, bool(b.text.strip()) and not b.error
    if there_a != there_b:
        return "a" if there_a else "b"
    return "tie" if not there_a or a.text.strip() == b.text.strip() else None


def _preference(
    n: int,
    sample: Sample,
    a: Answered,
    b: Answered,
    said: Mapping[_Key, Side | None],
    repeats: int,
    errors: Mapping[int, str],
) -> Preference:
    if (decided := _walkover(a, b)) is not None:
        return Preference(sample_id=sample.id, winner=decided, shown_first=None, shown_second=None)
    first, second = said.get((n, True, 0)), said.get((n, False, 0))
    winner: Side | None = None if first is None or second is None else first if first == second else "tie"
    again: tuple[Side | None, ...] = tuple(said.get((n, True, number + 1)) for number in range(repeats))
    return Preference(
        sample_id=sample.id,
        winner=winner,
        shown_first=first,
        shown_second=second,
        repeats=again,
        error=errors.get(n, ""),
    )


def _report(
    found: Sequence[Preference],
    a: Sequence[Answered],
    b: Sequence[Answered],
    names: tuple[str, str],
    labels: Mapping[str, Side],
    threshold: float,
    cost: Mapping[str, Any],
) -> PairReport:
    decided = [one for one in found if one.winner is not None]
    won_a, won_b = [float(one.winner == "a") for one in decided], [float(one.winner == "b") for one in decided]
    places = [one.shown_first == "a" for one in found if one.shown_first in ("a", "b")]
    places += [one.shown_second == "b" for one in found if one.shown_second in ("a", "b")]
    both = [one for one in found if one.shown_first is not None and one.shown_second is not None]
    again = [one.shown_first == other for one in found for other in one.repeats if one.shown_first and other]
    lengths = {one.sample_id: (len(one.text), len(other.text)) for one, other in zip(a, b, strict=True)}
    longer = [
        (one.winner == "a") == (lengths[one.sample_id][0] > lengths[one.sample_id][1])
        for one in both
        if one.winner in ("a", "b") and lengths[one.sample_id][0] != lengths[one.sample_id][1]
    ]
    judged = [one for one in found if one.sample_id in labels]
    return PairReport(
        preferences=tuple(found),
        verdict=compare_pair(won_a, won_b, names=names) if len(decided) >= 2 else None,
        wins_a=int(sum(won_a)),
        wins_b=int(sum(won_b)),
        ties=sum(one.winner == "tie" for one in found),
        flips=sum(one.flipped for one in found),
        without_form=len(found) - len(decided),
        first_place=_share(places),
        consistency=_share([one.shown_first == one.shown_second for one in both]),
        self_consistency=_share(again),
        longer=_share(longer),
        calibration=calibrate(
            [one.winner or "" for one in judged], [labels[one.sample_id] for one in judged], threshold=threshold
        ),
        tokens=cost["tokens"],
        seconds=cost["seconds"],
        energy_joules=cost["energy_joules"],
    )


def _share(found: Sequence[bool]) -> Interval | None:
    return rate([float(one) for one in found]) if found else None
