"""Testing: the locked test, answered once by every frozen arm, and the verdict on it, as one artifact.

    comparison.json      everything below as data
    answers/NAME.jsonl   every answer with its score, calls and costs
    report.html, plot.svg, plot.png, winner.toml

How often the same test was opened before is counted in the ledger and told: a test that is looked at again and again is
no test any more. This module does not know how arms are tuned.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.answering import answered_all, plain, scores_of, unjudged
from bloomery.adapt.comparison.arm import Setting
from bloomery.adapt.comparison.economics import Cost, break_evens, cheapest_first, cost_of, pareto, unit_of
from bloomery.adapt.comparison.entries import Entry
from bloomery.adapt.comparison.ranking import Ranking, ranked
from bloomery.adapt.comparison.split import read_part
from bloomery.adapt.comparison.task import TaskConfig
from bloomery.adapt.comparison.tuning import Frozen, read_arm
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import to_dict
from bloomery.core.run import Meter, Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.evaluate.sample import Answered, Sample, Score

KIND = "comparison"
STAGE = "compare_test"
RESULT = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class Tested:
    """An arm's answers to the test, in its order, their scores, and what all of it cost."""

    entry: Entry
    frozen: Frozen
    answers: tuple[Answered, ...]
    scores: tuple[Score, ...]
    cost: Cost
    file: str


def inputs_of_test(config: TaskConfig, split: Artifact, arms: Mapping[str, Artifact]) -> StageInputs:
    """What the verdict depends on: which arms, as they are frozen, and which test."""
    told = to_dict(config)
    names = ("name", "metric", "alpha", "requests", "label_price", "price_per_kwh", "currency", "model", "arms")
    digest = split.metrics["digests"]["test"]
    return StageInputs(
        stage=STAGE,
        config={"test": digest, "entries": list(arms), **{name: told[name] for name in names}},
        parents=(split.id, *(artifact.id for artifact in arms.values())),
        seed=config.seed,
    )


def opened_before(workspace: Workspace, inputs: StageInputs) -> int:
    """How often this test was opened before, by whatever comparison; an attempt that went on is no second one."""
    times: dict[str, list[str]] = {}
    for run in workspace.ledger.runs(stage=STAGE, limit=1_000_000):
        if run["config"].get("test") == inputs.config["test"] and run["state"] != "running":
            times.setdefault(run["key"], []).append(run["state"])
    finished = {key: states.count("finished") for key, states in times.items()}
    return sum(count if key == inputs.key else max(1, count) for key, count in finished.items())


def tested(
    run: Run,
    entries: Sequence[Entry],
    arms: Mapping[str, Artifact],
    settings: Mapping[str, Setting],
    split: Artifact,
    meter: Meter,
) -> list[Tested]:
    """Every arm over the test, in one order. What a killed process has answered is kept in the run's scratch."""
    test = read_part(split, "test")
    found = []
    for number, entry in enumerate(entries):
        with run.phase(entry.name):
            found.append(_tested(run, number, entry, read_arm(arms[entry.name]), settings[entry.model], test, meter))
    return found


def _tested(
    run: Run, number: int, entry: Entry, frozen: Frozen, setting: Setting, test: Sequence[Sample], meter: Meter
) -> Tested:
    file = f"{number:02d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', entry.name)}.jsonl"
    remote = setting.model is not None and setting.model.loaded is None
    concurrency = setting.model.config.concurrency if setting.model is not None else 1
    with entry.arm.opened(setting, frozen.settings, frozen.folder) as answerer:
        answers = answered_all(
            answerer,
            test,
            run.scratch / file,
            concurrency=concurrency,
            meter=None if remote else meter,
            progress=lambda done: run.progress(done, len(test), unit="answers", arm=entry.name),
        )
    scores = scores_of(test, answers, setting.scorer)
    model, work = (None, None) if setting.model is None else (setting.model.config, setting.model.work)
    cost = cost_of(answers, frozen.spent, frozen.labels_used, setting.config, model, work)
    return Tested(entry=entry, frozen=frozen, answers=tuple(answers), scores=tuple(scores), cost=cost, file=file)


def verdict(config: TaskConfig, found: Sequence[Tested], test: Sequence[Sample]) -> tuple[Ranking, dict[str, Any]]:
    """The ranking, and what goes with it in money, joules or seconds."""
    costs = {one.entry.name: one.cost for one in found}
    unit = unit_of(costs)
    order = cheapest_first(costs, {one.entry.name: one.entry.arm.name for one in found}, unit, config.requests)
    scores = {one.entry.name: [score.value for score in one.scores] for one in found}
    clusters = [sample.cluster or sample.id for sample in test] if any(one.cluster for one in test) else None
    constant = next((one.entry.name for one in found if one.entry.arm.name == "majority"), "")
    ranking = ranked(scores, order, clusters=clusters, alpha=config.alpha, seed=config.seed, constant=constant)
    quality = {name: one.value for name, one in ranking.quality.items()}
    answering = {one.entry.name: one.cost for one in found if not all(answer.error for answer in one.answers)}
    told = {
        "unit": unit,
        "cheapest_first": order,
        "pareto": pareto(answering, {name: quality[name] for name in answering}, unit),
        "break_evens": [vars(one) for one in break_evens(answering, unit)],  # failing is no way to save
    }
    return ranking, told


def arm_data(one: Tested, ranking: Ranking) -> dict[str, Any]:
    """An arm as the result tells it."""
    judge = (f"the judge: {why}" if (why := unjudged(score)) else "" for score in one.scores)
    failed = [why for answer, other in zip(one.answers, judge, strict=True) if (why := answer.error or other)]
    return {
        "name": one.entry.name,
        "arm": one.entry.arm.name,
        "model": one.entry.model,
        "artifact": one.frozen.artifact.name,
        "quality": ranking.quality[one.entry.name].to_dict(),
        "dev_score": one.frozen.dev_score,
        "budget_used": one.frozen.used,
        "cost": one.cost.to_dict(),
        "failed": len(failed),
        "failed_because": commonest(failed),
        "settings": dict(one.frozen.settings),
        "tried": [vars(tried) for tried in one.frozen.tried],
        "notes": list(one.frozen.notes),
        "curve": [vars(step) for step in one.frozen.curve],
        "answers": f"answers/{one.file}",
    }


def commonest(reasons: Sequence[str]) -> str:
    """The one that is there most often, the first of equals; "" of none."""
    return Counter(reasons).most_common(1)[0][0] if reasons else ""


def write_answers(folder: Path, found: Sequence[Tested], test: Sequence[Sample]) -> None:
    """Every answer beside its question, target and score: JSON lines that a person can read."""
    (folder / "answers").mkdir()
    for one in found:
        rows = []
        for sample, answer, score in zip(test, one.answers, one.scores, strict=True):
            asked = {"id": sample.id, "input": sample.input, "targets": list(sample.targets)}
            row = {**asked, "answer": answer.text, "score": score.value, "why": score.why, **plain(answer)}
            rows.append(json.dumps(row, ensure_ascii=False) + "\n")
        data = "".join(rows).encode("utf-8", "backslashreplace")
        write_durably(folder / "answers" / one.file, data)


def read_comparison(artifact: Artifact) -> dict[str, Any]:
    """What a comparison found, as JSON data."""
    return json.loads(artifact.file(RESULT).read_text(encoding="utf-8"))
