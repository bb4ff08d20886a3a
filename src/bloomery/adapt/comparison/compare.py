"""Comparing: from a task to a verdict: split, tune every arm on train and dev, then open the test once.

Killed at any instant, the same call goes on: finished arms are artifacts, answers are kept as they come. This module
does not know how an arm works.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.arm import Setting
from bloomery.adapt.comparison.arms.prompted import LEAST
from bloomery.adapt.comparison.arms.room import paid_questions
from bloomery.adapt.comparison.entries import Entry, entries
from bloomery.adapt.comparison.models import OpenModel, opened_model
from bloomery.adapt.comparison.page import page
from bloomery.adapt.comparison.passages import reading_digest
from bloomery.adapt.comparison.plot import plotted
from bloomery.adapt.comparison.ranking import detectable, spread_on_dev
from bloomery.adapt.comparison.rare import rare_label
from bloomery.adapt.comparison.recipe import winner_recipe
from bloomery.adapt.comparison.split import LEAST as DEV_LEAST
from bloomery.adapt.comparison.split import read_part, split_task
from bloomery.adapt.comparison.task import Task, TaskConfig, read_task
from bloomery.adapt.comparison.testing import (
    KIND,
    RESULT,
    Tested,
    arm_data,
    inputs_of_test,
    opened_before,
    read_comparison,
    tested,
    verdict,
    write_answers,
)
from bloomery.adapt.comparison.tuning import read_arm, tune_inputs, tuned_arm
from bloomery.core.answer_cache import AnswerCache
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError, DataError, MissingExtraError, TrainingError
from bloomery.core.run import Run
from bloomery.core.stage import reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.evaluate.judge import make_judge
from bloomery.evaluate.scorers.registry import make_scorer
from bloomery.evaluate.subject import ANSWERS

_OWN = (ConfigError, DataError, MissingExtraError, TrainingError)
"""Errors of an arm's tuning that are its own to blame: it is left out, and the others go on."""
Say = Callable[[str], None]
_RIGHT_OR_WRONG = {"judge", "exact", "includes", "choice", "numeric", "squad_exact", "json_schema", "pattern", "code"}


def compare(
    task: Task | str | Path,
    *,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
    say: Say = lambda line: None,
) -> Artifact:
    """Compare every arm that fits; returns a "comparison" artifact (`read_comparison` gives its content).

    `say` is told, before anything is spent, what the test can show. `fresh`: everything is tuned and answered anew.
    Errors are those of the task's file, its samples, its models and its arms.
    """
    workspace = as_workspace(workspace)
    task = task if isinstance(task, Task) else read_task(task)
    config = task.config
    with opened_settings(config, workspace, fresh=fresh) as (split, settings, identities):
        found, out = entries(config, settings)
        before = [*what_it_can_show(config, split, len(found)), *what_it_depends_on(config, settings)]
        for line in before:
            say(line)
        arms = _frozen_arms(found, out, config, split, settings, identities, fresh, say)
        found = [entry for entry in found if entry.name in arms]
        final = inputs_of_test(config, split, arms)
        if not fresh and (made := reusable(workspace, final)):
            return made
        before += known_before_the_test(config, split, arms)
        say(before[-1])
        opened = opened_before(workspace, final)
        if opened:
            say(f"this test was opened {opened} {'time' if opened == 1 else 'times'} before: it is not new any more")
        meter = open_meter()
        with Run(workspace, final, meter=meter) as run:
            if fresh:
                for path in run.scratch.glob("*.jsonl"):
                    path.unlink()
            answered = tested(run, found, arms, settings, split, meter)
            told = result_of(config, split, answered, out, before, opened)
            return _published(run, config, split, answered, told)


def _frozen_arms(
    found: Sequence[Entry],
    out: dict[str, str],
    config: TaskConfig,
    split: Artifact,
    settings: Mapping[str, Setting],
    identities: Mapping[str, str],
    fresh: bool,
    say: Say,
) -> dict[str, Artifact]:
    """Every entry tuned; one that cannot be goes to `out`, with its reason. ConfigError where none is left."""
    arms: dict[str, Artifact] = {}
    for entry in found:
        setting = settings[entry.model]
        try:
            read = reading_digest(entry.arm.name, config.documents, setting.workspace, embedder=config.embedder)
            inputs = tune_inputs(entry.arm, config, split, identities[entry.model], read)
            arms[entry.name] = tuned_arm(entry.arm, setting, inputs, setting.workspace, fresh=fresh)
        except _OWN as error:
            out[entry.name] = error.one_line()
            say(f"left out: {entry.name}: {error.one_line()}")
    if not arms:
        reasons = "; ".join(f"{name}: {why}" for name, why in out.items())
        raise ConfigError("no arm could be tuned", hint=reasons[:300])
    return arms


@contextmanager
def opened_settings(
    config: TaskConfig, workspace: Workspace, *, fresh: bool = False
) -> Iterator[tuple[Artifact, dict[str, Setting], dict[str, str]]]:
    """(split, what arms are given by model, identities of models by model); "" is for arms that ask none."""
    scorer = None if config.judge is not None else make_scorer(config.metric, where="metric")
    split = split_task(config, workspace)
    train, dev = read_part(split, "train"), read_part(split, "dev")
    with ExitStack() as stack:
        cache = AnswerCache(workspace.root / ANSWERS)
        stack.callback(cache.close)
        judge = told = ""
        if config.judge is not None:
            judging = opened_model(config.judge, workspace, cache, fresh=fresh)
            stack.callback(judging.close)
            scorer, judge = make_judge({}, judging.chat), f" judged by {judging.identity}"
            told = judging.told
        assert scorer is not None
        plain = Setting(
            config=config,
            train=train,
            dev=dev,
            scorer=scorer,
            workspace=workspace,
            cache=cache,
            fresh=fresh,
            told=told,
        )
        settings, identities = {"": plain}, {"": judge}
        for one in config.model:
            model: OpenModel = opened_model(one, workspace, cache, fresh=fresh)
            stack.callback(model.close)
            settings[one.called] = replace(plain, model=model)
            identities[one.called] = model.identity + judge
        yield split, settings, identities


def what_it_can_show(config: TaskConfig, split: Artifact, arms: int) -> list[str]:
    """Lines for people, before anything is spent."""
    items, groups = split.metrics["items"], split.metrics["clusters"]
    pairs = arms * (arms - 1) // 2
    lines = [
        f"{config.name}: {items['train']:,} train, {items['dev']:,} dev, {items['test']:,} test"
        + (f" in {groups['test']:,} clusters" if groups["test"] < items["test"] else "")
        + f"; test sha256 {split.metrics['digests']['test'][:16]}"
    ]
    removed = [
        f"{split.metrics[name]:,} {what}"
        for name, what in (
            ("duplicates", "duplicate rows"),
            ("crossing", "questions in a second part"),
            ("unused", "questions beyond the limits"),
        )
        if split.metrics[name]
    ]
    if removed:
        lines.append("left out: " + ", ".join(removed))
    if config.judge is not None:
        lines.append(f"judged by {config.judge.called}, uncalibrated: no person's marks stand beside its own")
    if pairs:
        binary = config.metric in _RIGHT_OR_WRONG
        found = detectable(items["test"], pairs, alpha=config.alpha, binary=binary)
        lines.append(f"before the run: {found.text()}, {arms} arms, {pairs} pairs")
    return lines


def what_it_depends_on(config: TaskConfig, settings: Mapping[str, Setting]) -> list[str]:
    """Lines for people: where another day might give another verdict."""
    lines = []
    if config.budget.joules is not None:
        lines.append(
            "the budget in joules is measured: a machine that does other things, too, may tune a little less; "
            "processor_seconds and tokens are counted"
        )
    lines += dict.fromkeys(setting.told for setting in settings.values() if setting.told)
    for setting in settings.values():
        model = setting.model
        if model is None:
            continue
        if model.told:
            lines.append(model.told)
        if model.loaded is not None and model.config.concurrency > 1:
            lines.append(
                f"{model.config.called} is asked {model.config.concurrency} questions at a time: which are computed "
                "together, and so the last bits, depends on the moment; model.concurrency=1 repeats exactly"
            )
        paid = paid_questions(setting)
        if paid is not None and paid < len(setting.dev):
            least = f", fewer than the {LEAST} that each way is tried on at least" if paid < LEAST else ""
            lines.append(
                f"the budget pays for about {paid:,} of the {len(setting.dev):,} questions of dev, each asked "
                f"{model.config.called} once{least}: a larger [budget], or split.max_dev down to {DEV_LEAST}"
            )
    return lines


def known_before_the_test(config: TaskConfig, split: Artifact, arms: Mapping[str, Artifact]) -> list[str]:
    """Lines for people, when all is tuned: the best on dev, and what the test can show by what dev has shown."""
    frozen = {name: read_arm(artifact) for name, artifact in arms.items()}
    best = max(frozen, key=lambda name: frozen[name].dev_score)
    line = f"frozen: {best} is the best on dev ({frozen[best].dev_score:.3f})"
    pairs = len(arms) * (len(arms) - 1) // 2
    binary = config.metric in _RIGHT_OR_WRONG
    spread = spread_on_dev({name: one.dev_scores for name, one in frozen.items()}, binary=binary)
    if pairs and spread:
        found = detectable(split.metrics["items"]["test"], pairs, alpha=config.alpha, binary=binary, spread=spread)
        line += f"; by what dev has shown, {found.text()}"
    return [line]


def result_of(
    config: TaskConfig,
    split: Artifact,
    answered: list[Tested],
    out: Mapping[str, str],
    before: list[str],
    opened: int,
) -> dict[str, Any]:
    """Everything that was found, as JSON data."""
    test = read_part(split, "test")
    ranking, economics = verdict(config, answered, test)
    return {
        "name": config.name,
        "metric": config.metric,
        "verdict": ranking.sentence,
        "recommended": ranking.recommended,
        "ranking": ranking.to_dict(),
        **economics,
        "currency": config.currency,
        "requests": config.requests,
        "arms": [arm_data(one, ranking) for one in answered],
        "rare": rare_label({one.entry.name: one.answers for one in answered}, test, seed=config.seed),
        "left_out": dict(out),
        "before": before,
        "items": split.metrics["items"],
        "split": dict(split.metrics),
        "opened_before": opened,
        "budget": to_dict(config.budget),
        "config": to_dict(config),
    }


def _published(run: Run, config: TaskConfig, split: Artifact, answered: list[Tested], told: dict[str, Any]) -> Artifact:
    folder = run.new_folder()
    test = read_part(split, "test")
    winner = next(one for one in answered if one.entry.name == told["recommended"])
    told["code"] = run_versions()
    told = json.loads(json.dumps(told))
    write_durably(folder / RESULT, json.dumps(told, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    write_answers(folder, answered, test)
    write_durably(folder / "winner.toml", winner_recipe(config, winner.entry, winner.frozen).encode())
    write_durably(folder / "plot.svg", plotted(told, "svg"))
    write_durably(folder / "plot.png", plotted(told, "png"))
    write_durably(folder / "report.html", page(told, answered, test).encode("utf-8", "backslashreplace"))
    quality = {one["name"]: one["quality"]["value"] for one in told["arms"]}
    metrics = {"verdict": told["verdict"], "recommended": told["recommended"], "quality": quality}
    return run.publish(folder, kind=KIND, metrics=metrics)


def run_versions() -> dict[str, Any]:
    from bloomery.core.run import code_versions

    return dict(code_versions())


__all__ = ["Entry", "compare", "opened_settings", "read_comparison", "result_of", "what_it_can_show"]
