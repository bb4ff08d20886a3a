"""Report: what several arms did on the same samples: scores with intervals, verdicts, costs, and every answer to read.

    report = build_report(task, samples, {"base": answers, "tuned": others}, {"base": scores, "tuned": more})
    write_html(report, "report.html"); json.dumps(report.to_dict())

An arm is whatever answered (a model, a prompt, a classic baseline); one alone is a report too. Everything in it is
plain data or a small frozen dataclass, so that whoever has numbers of another kind fills the dataclasses by hand. This
module does not know tasks, files or HTML (see `report_page`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bloomery.core.errors import DataError
from bloomery.core.quantity import Quantity
from bloomery.evaluate.judge_calibration import JudgedScore
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.statistics import Interval, Verdict, compare_all, detectable_paired_binary, estimate

_ASSUMED_DISCORDANCE = 0.2


@dataclass(frozen=True, kw_only=True)
class ReportArm:
    """One that answered."""

    name: str
    scores: Mapping[str, Interval]
    """By scorer, over the samples that both the arm and the scorer have."""
    corpus: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By scorer {"value", "signature"}: figures that are no mean of samples (BLEU)."""
    judged: Mapping[str, JudgedScore] = field(default_factory=dict)
    """By judge: its kappa, form and prediction-powered mean."""
    costs: Mapping[str, Any] = field(default_factory=dict)
    """What it took, in words that hold a unit: numbers, texts or {low, central, high, method}; None is unknown."""
    notes: tuple[str, ...] = ()
    """What a reader should know of it: how it was made, what failed."""


@dataclass(frozen=True, kw_only=True)
class ReportAnswer:
    """What one arm said to one sample, and what that is worth to each scorer."""

    text: str
    values: Mapping[str, float] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    """By scorer, where it says why, or what it took for the answer."""
    error: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to read, by its title: passages, votes, the prompt."""


@dataclass(frozen=True, kw_only=True)
class ReportSample:
    """One question with all answers to it, by arm."""

    id: str
    input: str
    answers: Mapping[str, ReportAnswer]
    targets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    cluster: str = ""
    contaminated: bool = False
    """It, or its answer, was found in what a model was trained on."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Everything that a report shows."""

    task: Mapping[str, Any]
    """`name`, `description`, and whatever else tells it: each key is shown."""
    arms: tuple[ReportArm, ...]
    samples: tuple[ReportSample, ...]
    main: str
    """The scorer that verdicts and filters go by."""
    verdicts: tuple[Verdict, ...] = ()
    detectable: str = ""
    """What so many samples could show, said before the run."""
    contamination: Mapping[str, Any] | None = None
    """What was looked for and found; None: not looked."""
    notes: tuple[str, ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)
    """Versions, seeds and commands."""

    def to_dict(self, *, samples: bool = True) -> dict[str, Any]:
        """Plain JSON data; `samples` False leaves the answers out."""
        arms = []
        for arm in self.arms:
            whole = {**vars(arm), "scores": {name: one.to_dict() for name, one in arm.scores.items()}}
            whole["judged"] = {name: one.to_dict() for name, one in arm.judged.items()}
            arms.append({**whole, "corpus": {name: dict(one) for name, one in arm.corpus.items()}})
        found = {**vars(self), "arms": arms, "verdicts": [one.to_dict() for one in self.verdicts]}
        found["samples"] = [_plain(asdict(one)) for one in self.samples] if samples else len(self.samples)
        return _plain(found)


def build_report(
    task: Mapping[str, Any],
    samples: Sequence[Sample],
    answers: Mapping[str, Sequence[Answered]],
    scores: Mapping[str, Sequence[Score]],
    *,
    main: str | None = None,
    against: str | None = None,
    corpus: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    judged: Mapping[str, Mapping[str, JudgedScore]] | None = None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    contamination: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    made: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> EvaluationReport:
    """From what arms answered and what scorers said of it, by arm; all scorers of an arm together, in any order.

    Intervals and verdicts keep clusters whole (`Sample.cluster`). `main` None is the first scorer; `against` compares
    with that arm alone, None each with each; `contamination["ids"]` marks samples; costs are added up from the answers
    where `costs` does not say. DataError where a sample lacks an arm's answer or main score.
    """
    if not samples or not answers:
        raise DataError("a report needs samples and an arm that answered them")
    order = [one.id for one in samples]
    said = {arm: _by_id(listed, order, f"answers of {arm}") for arm, listed in answers.items()}
    worth = {arm: _by_scorer(scores.get(arm, ())) for arm in answers}
    first = main or next((name for found in worth.values() for name in found), "")
    clusters = [one.cluster or f"\0{one.id}" for one in samples]
    values = {arm: _main_values(arm, found, first, order) for arm, found in worth.items()}
    several = len(values) > 1 and len(set(clusters)) > 1
    tainted = set((contamination or {}).get("ids", ()))

    def arm_of(arm: str) -> ReportArm:
        listed = list(said[arm].values())
        return ReportArm(
            name=arm,
            scores=_intervals(worth[arm], order, clusters, 1 - alpha),
            corpus=(corpus or {}).get(arm, {}),
            judged=(judged or {}).get(arm, {}),
            costs=(costs or {}).get(arm) or costs_of(listed),
            notes=(*_failures(listed), *_untainted(values[arm], order, clusters, tainted, 1 - alpha)),
        )

    return EvaluationReport(
        task=task,
        arms=tuple(arm_of(arm) for arm in answers),
        samples=tuple(_sample(one, said, worth, one.id in tainted) for one in samples),
        main=first,
        verdicts=compare_all(values, against=against, clusters=clusters, alpha=alpha, seed=seed) if several else (),
        detectable=_detectable(values, len(samples), alpha),
        contamination=contamination,
        notes=(*notes, *(() if several or len(values) < 2 else ("one item or cluster alone: arms are not compared",))),
        made=made or {},
    )


def _main_values(arm: str, found: Mapping[str, Mapping[str, Score]], main: str, order: Sequence[str]) -> list[float]:
    if set(found.get(main, ())) < set(order):
        raise DataError(f"the arm {arm!r:.60} has no {main!r:.60} score for every sample")
    return [found[main][one].value for one in order]


def costs_of(answers: Sequence[Answered]) -> dict[str, Any]:
    """Per answer; unknown (None) where one of them does not say."""
    number = max(1, len(answers))
    found: dict[str, Any] = {}
    for name, key in (("prompt tokens", "prompt_tokens"), ("completion tokens", "completion_tokens")):
        told = [getattr(one, key) for one in answers]
        found[f"{name} per answer"] = None if None in told else sum(told) / number
    found["seconds per answer"] = sum(one.seconds for one in answers) / number
    joules = Quantity.exact(0.0, "counter")
    for one in answers:
        joules = joules + one.energy_joules
    found["joules per answer"] = joules.scaled(1 / number).to_dict() if joules.known else None
    return found


def _by_id(found: Sequence[Answered], order: Sequence[str], what: str) -> dict[str, Answered]:
    made = {one.sample_id: one for one in found}
    if len(made) != len(found) or set(made) != set(order):
        raise DataError(f"{what}: {len(found):,} for {len(order):,} samples, each should have one")
    return {one: made[one] for one in order}


def _by_scorer(scores: Sequence[Score]) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    for one in scores:
        found.setdefault(one.scorer, {})[one.sample_id] = one
    return found


def _intervals(
    found: Mapping[str, Mapping[str, Score]], order: Sequence[str], clusters: Sequence[str], level: float
) -> dict[str, Interval]:
    made = {}
    for name, scored in found.items():
        places = [place for place, one in enumerate(order) if one in scored]
        groups = [clusters[place] for place in places]
        values = [scored[order[place]].value for place in places]
        if len(set(groups)) > 1:
            made[name] = estimate(values, clusters=groups, level=level)
        elif values:
            value, why = sum(values) / len(values), "one item or cluster says nothing about spread"
            made[name] = Interval(value=value, low=0.0, high=1.0, n=len(values), method=why, level=level)
    return made


def _detectable(values: Mapping[str, Sequence[float]], n: int, alpha: float) -> str:
    binary = all(value in (0.0, 1.0) for listed in values.values() for value in listed)
    if len(values) < 2 or n < 2 or not binary:
        return ""
    return detectable_paired_binary(n, _ASSUMED_DISCORDANCE, alpha=alpha).text()


def _failures(answers: Sequence[Answered]) -> tuple[str, ...]:
    failed = sum(bool(one.error) for one in answers)
    return (f"{failed:,} of {len(answers):,} samples have no answer: they are worth 0",) if failed else ()


def _untainted(
    values: Sequence[float], order: Sequence[str], clusters: Sequence[str], tainted: set[str], level: float
) -> tuple[str, ...]:
    """The main score without the samples that were found in training data."""
    kept = [place for place, one in enumerate(order) if one not in tainted]
    groups = [clusters[place] for place in kept]
    if len(kept) == len(order) or len(set(groups)) < 2:
        return ()
    found = estimate([values[place] for place in kept], clusters=groups, level=level)
    return (f"without the {len(order) - len(kept):,} contaminated samples: {found.text()}",)


def _sample(
    sample: Sample,
    said: Mapping[str, Mapping[str, Answered]],
    worth: Mapping[str, Mapping[str, Mapping[str, Score]]],
    tainted: bool,
) -> ReportSample:
    answers = {}
    for arm, listed in said.items():
        scored = {name: found[sample.id] for name, found in worth[arm].items() if sample.id in found}
        why = {name: one.why or (f"took {one.answer}" if one.answer else "") for name, one in scored.items()}
        answers[arm] = ReportAnswer(
            text=listed[sample.id].text,
            values={name: one.value for name, one in scored.items()},
            why={name: words for name, words in why.items() if words},
            error=listed[sample.id].error,
            details=dict(listed[sample.id].details),
        )
    return ReportSample(
        id=sample.id,
        input=sample.input,
        answers=answers,
        targets=sample.targets,
        choices=sample.choices,
        cluster=sample.cluster,
        contaminated=tainted,
    )


def _plain(value: Any) -> Any:
    """As JSON has it: no number that is not finite, no key that is not text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return _plain(value.to_dict()) if hasattr(value, "to_dict") else str(value)
