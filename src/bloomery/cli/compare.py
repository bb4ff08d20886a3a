"""`bloomery compare`: prompt, retrieve, fine-tune or a classic model? This module does not know how it is found out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, artifact_data, print_json, shown
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.adapt.comparison import Rebuilt, Task
    from bloomery.core.artifact import Artifact

TaskFile = Annotated[Path, Parameter(help="A task (TOML): samples, model, arms, budget; or the recipe of a winner.")]
TaskSets = Annotated[
    list[str] | None,
    Parameter(name="--set", negative=(), help="Override a key of the task: key=value, table.key=value. Repeatable."),
]
_UNITS = {"money": "money", "joules": "J", "seconds": "s"}


def compare(
    task: TaskFile,
    *,
    set_: TaskSets = None,
    rebuild: Annotated[
        bool, Parameter(negative=(), help="Build the one arm of a winner's recipe; the test stays closed.")
    ] = False,
    ask: Annotated[list[str] | None, Parameter(negative=(), help="Rebuild, and answer this. Repeatable.")] = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Compare arms on one task: tuned on train and dev within one budget, judged on a locked test, once. Killed, the
    same command goes on."""
    common = common or Common()
    from bloomery.adapt.comparison import compare as compare_arms
    from bloomery.adapt.comparison import read_task, rebuilt

    settings = read_task(task, set_ or ())
    workspace = common.workspace()
    if rebuild or ask:
        _check_rebuilding(settings)
        with rebuilt(settings, workspace=workspace, fresh=fresh) as found:
            _show_rebuilt(found, ask or [], common)
        return
    say = (lambda line: None) if common.quiet else (lambda line: print(shown(line), file=sys.stderr))
    _show(compare_arms(settings, workspace=workspace, fresh=fresh, say=say), common)


def _check_rebuilding(task: Task) -> None:
    if len(task.config.arms) != 1:
        raise ConfigError("a recipe of one arm is rebuilt", hint='the winner.toml of a comparison, or arms = ["..."]')


def _show(made: Artifact, common: Common) -> None:
    from bloomery.adapt.comparison import read_comparison

    result = read_comparison(made)
    if common.json:
        print_json({**artifact_data(made), "result": result})
        return
    for line in table_lines(result):
        print(line)
    for one in result["arms"]:
        if one["failed"]:
            because = f": {shown(one['failed_because'])}" if one.get("failed_because") else ""
            print(f"{shown(one['name'])}: {one['failed']:,} of {one['quality']['n']:,} without an answer{because}")
    for one in result["arms"]:
        if caution := one["quality"].get("caution"):
            print(f"{shown(one['name'])}: {shown(caution)}")
    for why in dict.fromkeys(result["left_out"].values()):
        names = ", ".join(name for name, reason in result["left_out"].items() if reason == why)
        print(f"left out: {shown(names)}: {shown(why)}")
    for one in result["break_evens"][:8]:
        print(
            f"from {one['requests']:,.0f} requests on {shown(one['dear_to_make'])} has cost less than "
            f"{shown(one['dear_to_ask'])}"
        )
    times = result["opened_before"]
    print(f"test {result['split']['digests']['test'][:16]}, opened {times} times before")
    print(shown(result["verdict"]))
    for name in ("report.html", "plot.png", "winner.toml"):
        print(f"  {made.path / name}")


def table_lines(result: dict[str, Any]) -> list[str]:
    """The arms, best first, in columns; the recommended one has a star."""
    from bloomery.adapt.comparison.economics import amount

    unit = result["unit"]
    rows = [["arm", result["metric"], "95%", "dev", f"{_UNITS[unit]}/answer", "p50 s", "p95 s", "tokens"]]
    rows[0] += [f"{_UNITS[unit]} to make", "budget"]
    for one in sorted(result["arms"], key=lambda arm: -arm["quality"]["value"]):
        quality, cost = one["quality"], one["cost"]
        tokens = [cost["prompt_tokens"], cost["completion_tokens"]]
        rows.append(
            [
                shown(one["name"]) + (" *" if one["name"] == result["recommended"] else ""),
                f"{quality['value']:.3f}",
                f"{quality['low']:.3f} to {quality['high']:.3f}",
                f"{one['dev_score']:.3f}",
                _figure(amount(one, unit)),
                _figure(cost["seconds_p50"]),
                _figure(cost["seconds_p95"]),
                "unknown" if None in tokens else f"{sum(tokens):.0f}",
                _figure(amount(one, unit, make=True)),
                f"{one['budget_used']:.0%}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    told = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        told.append("  ".join(cells))
    return told


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _show_rebuilt(found: Rebuilt, questions: list[str], common: Common) -> None:
    from bloomery.evaluate.sample import Sample

    choices = tuple(found.choices)
    samples = [Sample(id=str(number), input=text, choices=choices) for number, text in enumerate(questions)]
    answers = [found.answerer.answer(sample) for sample in samples]
    artifact = found.frozen.artifact
    if common.json:
        told = [{"input": s.input, "answer": a.text, "error": a.error} for s, a in zip(samples, answers, strict=True)]
        more = {"dev_score": found.frozen.dev_score, "same_settings": found.same, "answers": told}
        print_json({**artifact_data(artifact), **more})
        return
    if found.same is False:
        print("note: tuning froze other settings than the recipe tells", file=sys.stderr)
    if not questions:
        print(f"{artifact.name}  {artifact.path}")
        print(f"  {shown(found.entry.name)}: {found.frozen.dev_score:.3f} on dev")
    for answer in answers:
        print(shown(answer.text or f"no answer: {answer.error}"))
