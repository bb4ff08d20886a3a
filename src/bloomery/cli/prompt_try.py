"""`bloomery prompt try`: a prompt put to a model on labelled samples. This module does not know how it is asked."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from bloomery.cli.options import Common, print_json, shown
from bloomery.cli.prompt_options import (
    AskingOptions,
    ModelName,
    PromptName,
    SamplesFile,
    ScorerName,
    find_prompt,
    find_scorer,
    opened_model,
)
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.adapt.prompts import PromptTemplate
    from bloomery.evaluate.sample import Answered, Sample, Score


def try_(
    prompt: PromptName,
    samples: SamplesFile,
    *,
    model: ModelName = "",
    split: Annotated[Literal["dev", "test", "all"], Parameter(help="Of a file that names splits.")] = "dev",
    limit: Annotated[
        int, Parameter(help="So many samples, from the beginning [default: all].", validator=validators.Number(gte=0))
    ] = 0,
    scorer: ScorerName = "",
    answers: Annotated[Path | None, Parameter(help="Write every answer, its calls and its score here (JSONL).")] = None,
    asking: AskingOptions | None = None,
    common: Common | None = None,
) -> None:
    """Put a prompt to a model: mean score with a 95% interval, and what it took."""
    common, asking = common or Common(), asking or AskingOptions()
    from bloomery.adapt.prompts.sample_file import read_sample_file

    workspace = common.workspace()
    template, judge = find_prompt(prompt, workspace), find_scorer(scorer)
    parts = read_sample_file(samples)
    asked = _asked(parts, split)[: limit or None]
    notes = _notes(template, parts, split, asked)
    for note in () if common.quiet else notes:
        print(f"note: {note}", file=sys.stderr)
    with opened_model(model, workspace, asking) as opened:
        arm = asking.answerer(template, opened, parts["train"] or parts[""])
        with ThreadPoolExecutor(asking.concurrency) as pool:
            found = list(pool.map(arm.answer, asked))
    scores = [judge.score(sample, one) for sample, one in zip(asked, found, strict=True)]
    if answers is not None:
        _write(answers, asked, found, scores)
    told = {**_told(arm.name, judge.name, asked, found, [one.value for one in scores]), "notes": notes}
    if common.json:
        print_json(told)
        return
    interval = told["score"]
    print(shown(told["answerer"]))
    print(
        f"  {judge.name} {interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f}), n = {len(asked):,}"
    )
    print(f"  {told['cost']}; {told['failed']:,} without an answer")
    for sample, one, score in list(zip(asked, found, scores, strict=True))[:3]:
        said = shown(" ".join((one.text or one.error).split()))
        print(f"  {sample.id}: {said:.80} ({score.value:g})")


def _asked(parts: dict[str, list[Sample]], split: str) -> list[Sample]:
    named = bool(parts["train"] or parts["dev"] or parts["test"])
    every = [one for part in parts.values() for one in part]
    found = parts[split] if named and split != "all" else every
    if not found:
        raise ConfigError(f"the file has no samples of {split}", hint="--split all")
    return found


def _notes(template: PromptTemplate, parts: dict[str, list[Sample]], split: str, asked: list[Sample]) -> list[str]:
    """What makes the score another one than it looks like."""
    notes = []
    if split != "all" and len(parts[""]) == sum(map(len, parts.values())):
        notes.append(f"the file names no splits, so that there is no {split}: all its {len(parts['']):,} samples count")
    bare = sum(not one.metadata.get("passages") for one in asked)
    if bare and template.names("passages"):
        notes.append(
            f'the prompt shows passages, but {bare:,} of {len(asked):,} samples have none: a list "passages" of texts'
        )
    return notes


def _told(name: str, scorer: str, samples: list[Sample], found: list[Answered], values: list[float]) -> dict[str, Any]:
    from bloomery.core.quantity import Quantity
    from bloomery.evaluate.statistics import estimate

    clusters = [one.cluster or one.id for one in samples] if any(one.cluster for one in samples) else None
    joules = Quantity.exact(0.0, "counter")
    for one in found:
        joules = joules + one.energy_joules
    counts = {
        part: None if any(getattr(one, part) is None for one in found) else sum(getattr(one, part) for one in found)
        for part in ("prompt_tokens", "completion_tokens")
    }
    tokens = " + ".join("unknown" if count is None else f"{count:,}" for count in counts.values())
    calls = sum(len(one.calls) for one in found)
    seconds = sum(one.seconds for one in found)
    return {
        "answerer": name,
        "scorer": scorer,
        "score": estimate(values, clusters=clusters).to_dict(),
        "samples": len(samples),
        "failed": sum(bool(one.error) for one in found),
        **counts,
        "calls": calls,
        "seconds": seconds,
        "energy_joules": joules.to_dict(),
        "cost": f"{calls:,} calls, {tokens} tokens, {seconds:.1f} s, {joules.text('J')}",
    }


def _write(path: Path, samples: list[Sample], found: list[Answered], scores: list[Score]) -> None:
    import json

    from bloomery.core.artifact import disk_errors

    with disk_errors(f"cannot write {path}"), path.open("w", encoding="utf-8") as file:
        for sample, one, score in zip(samples, found, scores, strict=True):
            row = {**asdict(one), "energy_joules": one.energy_joules.to_dict(), "targets": sample.targets}
            file.write(json.dumps({**row, "score": score.value}, ensure_ascii=False) + "\n")
