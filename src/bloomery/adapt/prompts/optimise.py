"""The optimising stage: a better prompt out of labelled samples, within a budget of tokens; an artifact "prompt".

    made = optimise(template, model, train, dev, make_scorer("exact"))

Two rounds. First instructions (written by the model, reworded, edited) and sets of examples, each alone; then the best
of both together. Candidates are judged on dev by successive halving, and the prompt that one began with is judged with
them to the end. There is no way to hand it a test. What was asked is kept as it comes: a search that was stopped goes
on without asking again, and ends with the same prompt. This module does not know tasks or files of samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from bloomery.adapt.prompts.halving import Standing, halve, last_rung
from bloomery.adapt.prompts.proposals import (
    edited,
    read_instruction,
    rewording,
    with_examples,
    with_instruction,
    writing,
)
from bloomery.adapt.prompts.strategies import StrategyConfig
from bloomery.adapt.prompts.tally import seed_for
from bloomery.adapt.prompts.template import PromptTemplate
from bloomery.adapt.prompts.trials import Trials
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.budget import BudgetError
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatModel, ChatOptions
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.evaluate.sample import Sample, Scorer
from bloomery.evaluate.statistics import compare_pair

KIND = "prompt"


@dataclass(frozen=True, kw_only=True)
class OptimiseConfig:
    """What is tried, and how much it may take."""

    tokens: int = 200_000
    """Of prompts and answers together, for the whole search."""
    instructions: int = 6
    """Written by the model."""
    rewordings: int = 2
    """Of the prompt's own instruction, by the model."""
    edits: int = 2
    """Of it, by hand of the machine: no tokens."""
    example_sets: int = 6
    """Draws from the training samples."""
    examples: int = 4
    """In each; 0: no examples are tried."""
    first_samples: int = 16
    """Of dev, that every candidate is judged on at first; doubled for those that are left."""
    keep: float = 0.5
    """The share that is left after each rung."""
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    """How each prompt is put to the model."""
    concurrency: int = 4
    """Samples under way at a time."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("instructions", "rewordings", "edits", "example_sets", "examples"):
            if not 0 <= getattr(self, name) <= 200:
                raise ConfigError(f'"{name}" is {getattr(self, name)}, but should be from 0 to 200')
        if self.tokens < 1 or self.first_samples < 1 or not 0 < self.keep < 1 or not 1 <= self.concurrency <= 256:
            raise ConfigError('"tokens", "first_samples" and "concurrency" are 1 or more, "keep" between 0 and 1')


def optimise_inputs(
    template: PromptTemplate,
    model: str,
    train: Sequence[Sample],
    dev: Sequence[Sample],
    scorer: str,
    config: OptimiseConfig,
) -> StageInputs:
    """What the stage depends on; `model` and `scorer` are what tells them apart."""
    told = [[asdict(one) for one in part] for part in (train, dev)]
    return StageInputs(
        stage="optimise-prompt",
        config={**to_dict(config), "prompt": to_dict(template)},
        fingerprint=digest({"model": model, "scorer": scorer, "samples": told}),
        seed=config.seed,
    )


def optimise(
    template: PromptTemplate,
    model: ChatModel,
    train: Sequence[Sample],
    dev: Sequence[Sample],
    scorer: Scorer,
    *,
    config: OptimiseConfig | None = None,
    identity: str = "",
    workspace: Workspace | str | None = None,
    fresh: bool = False,
) -> Artifact:
    """Search for a better prompt. Examples and proposals come from `train`, scores from `dev`; they share no sample.
    `identity` tells the weights apart where the model's name does not.

    Returns a "prompt" artifact: prompt.toml, scores.json and every answer. ConfigError where there is nothing to judge
    by, or the budget does not reach for a first look.
    """
    workspace, config = as_workspace(workspace), config or OptimiseConfig()
    _check(train, dev)
    inputs = optimise_inputs(template, identity or model.name, train, dev, _settings_of(scorer), config)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        log = run.scratch / "answers.jsonl"
        if fresh:
            log.unlink(missing_ok=True)
        trials = Trials(model, train, dev, scorer, config.strategy, log, tokens=config.tokens, seed=config.seed)
        trials.concurrency = config.concurrency
        trials.heard = lambda: run.progress(trials.tokens, config.tokens, unit="tokens", best=trials.best)
        with run.phase("search"):
            search = _Search(template, trials, config)
            search.run()
        best, report = search.report()
        folder = run.new_folder()
        write_durably(folder / "prompt.toml", best.to_toml().encode())
        write_durably(folder / "scores.json", json.dumps(report, indent=1, ensure_ascii=False).encode())
        write_durably(folder / "answers.jsonl", log.read_bytes())
        figures = {"dev_score": report["best"]["score"], "baseline_score": report["baseline"]["score"]}
        run.metrics({**figures, "tokens": report["tokens"]})
        return run.publish(folder, kind=KIND, metrics={**figures, "tokens": report["tokens"], "prompt": best.identity})


def _settings_of(scorer: Scorer) -> str:
    """Its name, and settings that the name may not tell: a schema, a pattern, an encoder."""
    names = [one.name for one in fields(scorer) if one.init] if is_dataclass(scorer) else []
    told = {name: getattr(scorer, name) for name in names if not name.startswith("_")}
    told = {name: getattr(value, "__qualname__", value) for name, value in told.items()}  # of functions no address
    return f"{scorer.name} {told}"


def read_scores(prompt: Artifact) -> dict[str, Any]:
    """What a prompt artifact says of its search."""
    return json.loads(prompt.file("scores.json").read_text(encoding="utf-8"))


def _check(train: Sequence[Sample], dev: Sequence[Sample]) -> None:
    if not dev or not any(one.targets for one in train):
        raise ConfigError("a search needs labelled samples to learn from (train), and others to judge by (dev)")
    if len({one.id for one in dev}) < len(dev):
        raise ConfigError("two samples of dev have one id: the second would be given the first one's score")
    shared = {(one.input, one.choices) for one in train} & {(one.input, one.choices) for one in dev}
    if shared:
        raise ConfigError(
            f"{len(shared):,} samples are in train and in dev", hint="each belongs to one: scores would be too good"
        )


class _Search:
    """Candidates in the order in which they came, and where they stand."""

    def __init__(self, template: PromptTemplate, trials: Trials, config: OptimiseConfig) -> None:
        self.trials, self.config = trials, config
        self.candidates: list[PromptTemplate] = [template]
        self.origins: list[str] = ["as given"]
        self.standings: list[tuple[int, Standing]] = []
        self.ended = ""

    def run(self) -> None:
        """Both rounds, or as far as the budget reaches."""
        try:
            self._propose()
            if not self._round(1, list(range(len(self.candidates)))):
                return
            self._round(2, self._combined())
        except BudgetError as error:
            self.ended = error.message

    def _add(self, candidate: PromptTemplate, origin: str) -> int | None:
        """Its number; None for one that is there already."""
        if candidate.content_hash in {one.content_hash for one in self.candidates}:
            return None
        self.candidates.append(candidate)
        self.origins.append(origin)
        return len(self.candidates) - 1

    def _propose(self) -> None:
        config, given, trials = self.config, self.candidates[0], self.trials
        for number in range(config.example_sets if config.examples else 0):
            seed = seed_for(config.seed, "examples", number)
            self._add(with_examples(given, trials.train, config.examples, seed), f"examples, draw {number + 1}")
        for number in range(config.edits):
            text = edited(given.instruction, seed_for(config.seed, "edit", number))
            if text:
                self._add(with_instruction(given, text), "instruction, edited")
        asked = [("written", n) for n in range(config.instructions)]
        asked += [("reworded", n) for n in range(config.rewordings if given.instruction else 0)]
        for kind, number in asked:
            seed = seed_for(config.seed, kind, number)
            if kind == "written":
                messages = writing(given.instruction if number % 2 else "", trials.train, seed)
            else:
                messages = rewording(given.instruction)
            options = ChatOptions(max_new_tokens=160, temperature=1.0, seed=seed)
            text = read_instruction(trials.proposal(f"{kind}-{number}", messages, options))
            if text:
                self._add(with_instruction(given, text), f"instruction, {kind}")

    def _round(self, number: int, among: list[int]) -> bool:
        """Whether it went to its end."""
        judged = lambda candidate, items: self.trials.judged(self.candidates[candidate], items)  # noqa: E731
        config = self.config
        found, whole = halve(among, len(self.trials.dev), judged, first=config.first_samples, keep=config.keep)
        self.standings += [(number, one) for one in found]
        if not whole:
            self.ended = self.trials.ended
        return whole

    def _combined(self) -> list[int]:
        """The given prompt, the best of the first round, and its two best instructions with its two best example
        sets."""
        given = self.candidates[0]
        first = [one for number, one in self.standings if number == 1]
        deepest: dict[int, Standing] = {one.candidate: one for one in first}
        order = sorted(deepest.values(), key=lambda one: (-one.items, -one.score, one.tokens, one.candidate))
        words = [one.candidate for one in order if self.candidates[one.candidate].instruction != given.instruction]
        shots = [one.candidate for one in order if self.candidates[one.candidate].shots != given.shots]
        among = [0, *(one.candidate for one in last_rung(first)[:2] if one.candidate)]
        for instruction in words[:2]:
            for examples in shots[:2]:
                source = self.candidates[examples]
                joined = with_instruction(source, self.candidates[instruction].instruction)
                place = self._add(joined, f"{self.origins[instruction]} + {self.origins[examples]}")
                if place is not None:
                    among.append(place)
        return list(dict.fromkeys(among))

    def report(self) -> tuple[PromptTemplate, dict[str, Any]]:
        """The best prompt, and all that was found. Of the candidates that were judged on the most samples of dev; the
        given prompt where none is better."""
        if not self.standings:
            raise ConfigError(
                f"the budget of {self.config.tokens:,} tokens does not reach for a first look", hint="raise --tokens"
            )
        top = last_rung([one for _, one in self.standings])
        best = min(top, key=lambda one: (-one.score, one.tokens, one.candidate))
        base = next(one for one in top if one.candidate == 0)
        if best.score <= base.score and best.tokens >= base.tokens:
            best = base
        ours, theirs = (self.trials.scores(self.candidates[one.candidate], one.items) for one in (best, base))
        verdict = None
        if best.candidate:
            verdict = compare_pair(ours, theirs, names=("the prompt found", "the prompt given")).to_dict()
        template = self.candidates[best.candidate]
        if best.candidate:
            given = self.candidates[0]
            told = f"Found from {given.identity}."
            template = replace(template, version=given.version + 1, description=told)
        report = {
            "best": {"origin": self.origins[best.candidate], **asdict(best)},
            "baseline": asdict(base),
            "verdict": verdict,
            "note": "scores of dev chose the best of several: a test will be lower",
            "tokens": self.trials.tokens,
            "tokens_by": self.trials.spent_by(),
            "ended": self.ended or "all was tried",
            "scorer": self.trials.scorer.name,
            "model": self.trials.model_name,
            "samples": {"train": len(self.trials.train), "dev": len(self.trials.dev)},
            "candidates": [
                {"origin": origin, "instruction": one.instruction, "examples": len(one.shots), "prompt": one.identity}
                for one, origin in zip(self.candidates, self.origins, strict=True)
            ],
            "standings": [{"round": number, **asdict(one)} for number, one in self.standings],
        }
        return template, report
