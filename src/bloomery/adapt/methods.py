"""Methods: every way of adapting beside learning from examples, by the name that `bloomery adapt --method` takes.

A new one: a stage, a config whose table a recipe has, and a line in `METHODS`. This module does not know how any of
them is done, nor the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bloomery.adapt.distillation import DistilConfig, distil
from bloomery.adapt.domain import DomainConfig, adapt_domain
from bloomery.adapt.domain.forgetting import lines as forgetting_lines
from bloomery.adapt.heads import HeadsConfig, train_heads
from bloomery.adapt.preference import PreferenceConfig, prefer
from bloomery.adapt.reinforcement import ReinforceConfig, reinforce
from bloomery.adapt.tuning.config import budgeted
from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.engine import import_model

_DOCUMENT_CHARACTERS = 4000
_HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a method is called with. `data` are files, or for distil and domain maybe the name of a corpus."""

    model: Artifact
    data: Sequence[str | Path]
    config: Any
    workspace: Workspace
    teacher: Artifact | None = None
    general: Artifact | None = None
    controls: Mapping[str, Artifact] = field(default_factory=dict)
    fresh: bool = False

    @property
    def file(self) -> Path:
        """The one file. ConfigError for several."""
        if len(self.data) != 1:
            raise ConfigError(f"{len(self.data)} files are given", hint="this method reads one")
        return Path(self.data[0]).expanduser()

    @property
    def how(self) -> dict[str, Any]:
        return {"config": self.config, "workspace": self.workspace, "fresh": self.fresh}


@dataclass(frozen=True)
class Method:
    """A way of adapting: the table of a recipe that it is set by, the class of that, what it does, and what of `Asked`
    it needs beside model and data."""

    table: str
    config: type
    run: Callable[[Asked], Artifact]
    summary: str
    takes: tuple[str, ...] = ()


def _preferred(method: str) -> Callable[[Asked], Artifact]:
    def run(asked: Asked) -> Artifact:
        return prefer(asked.model, asked.file, **{**asked.how, "config": replace(asked.config, method=method)})

    return run


def _reinforced(asked: Asked) -> Artifact:
    return reinforce(asked.model, asked.file, **asked.how)


def _distilled(asked: Asked) -> Artifact:
    if asked.teacher is None:
        raise ConfigError("there is no teacher", hint="--teacher MODEL")
    if len(asked.data) == 1 and asked.workspace.matching(str(asked.data[0])):
        return distil(asked.model, asked.teacher, asked.workspace.find(asked.data[0], kind="corpus"), **asked.how)
    return distil(asked.model, asked.teacher, asked.file, **asked.how)


def _domain(asked: Asked) -> Artifact:
    config = asked.config if asked.general is not None else replace(asked.config, replay=0.0)
    domain = corpus_of(asked.data, asked.workspace)
    how = {**asked.how, "config": config}
    return adapt_domain(asked.model, domain, general=asked.general, controls=asked.controls, **how)


def _heads(asked: Asked) -> Artifact:
    return train_heads(asked.model, corpus_of(asked.data, asked.workspace), **asked.how)


METHODS: Mapping[str, Method] = {
    "dpo": Method("prefer", PreferenceConfig, _preferred("dpo"), "pairs of answers, by DPO"),
    "ipo": Method("prefer", PreferenceConfig, _preferred("ipo"), "pairs of answers, by IPO"),
    "kto": Method("prefer", PreferenceConfig, _preferred("kto"), "answers judged singly, by KTO"),
    "orpo": Method("prefer", PreferenceConfig, _preferred("orpo"), "pairs of answers, by ORPO"),
    "grpo": Method("reinforce", ReinforceConfig, _reinforced, "answers that can be checked, by GRPO"),
    "distil": Method("distil", DistilConfig, _distilled, "what a teacher says", ("teacher",)),
    "domain": Method(
        "domain", DomainConfig, _domain, "a domain's texts, general ones replayed", ("general", "controls")
    ),
    "heads": Method("heads", HeadsConfig, _heads, "extra heads, which guess the next tokens for the engine to check"),
}


def run_method(
    method: str,
    model: str | Path | Artifact,
    data: str | Path | Sequence[str | Path],
    *,
    config: Any = None,
    teacher: str | Path | Artifact | None = None,
    general: str | Path | Artifact | None = None,
    controls: Sequence[str | Path] | Mapping[str, Artifact] = (),
    minutes: float | None = None,
    epochs: float | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Adapt a model by one of METHODS. Models are artifacts, names, folders or hub ids; corpora artifacts, names or
    files.

    `minutes` or `epochs` override the config's budget. ConfigError for what the method does not take.
    """
    workspace = as_workspace(workspace)
    known = METHODS.get(method)
    if known is None:
        raise ConfigError(f"unknown method {method!r:.40}", hint=nearest(method, METHODS))
    given = {"teacher": teacher, "general": general, "controls": controls}
    for name, value in given.items():
        if value and name not in known.takes:
            raise ConfigError(f"{method} takes no {name.removesuffix('s')}")
    settings = known.config() if config is None else config
    settings = replace(settings, fit=budgeted(settings.fit, minutes, epochs))
    if not isinstance(controls, Mapping):
        controls = {Path(str(one)).name.partition(".")[0]: corpus_of([one], workspace) for one in controls}
    asked = Asked(
        model=model_of(model, workspace),
        data=[data] if isinstance(data, (str, Path)) else list(data),
        config=settings,
        workspace=workspace,
        teacher=None if teacher is None else model_of(teacher, workspace),
        general=general if general is None or isinstance(general, Artifact) else corpus_of([general], workspace),
        controls=controls,
        fresh=fresh,
    )
    return known.run(asked)


def model_of(model: str | Path | Artifact, workspace: Workspace) -> Artifact:
    """The artifact of a model; a folder or hub id is imported first."""
    if isinstance(model, Artifact):
        return model
    if workspace.matching(str(model)):
        return workspace.find(model)
    return import_model(model, workspace=workspace)


def corpus_of(sources: Sequence[str | Path], workspace: Workspace) -> Artifact:
    """A corpus by its name or id; files are curated first, long texts cut into documents, a tenth held out twice."""
    if len(sources) == 1 and workspace.matching(str(sources[0])):
        return workspace.find(sources[0], kind="corpus")
    paths = [Path(one).expanduser() for one in sources]
    for path in paths:
        if not path.exists():
            raise DataError(f"there is neither a corpus nor a file {str(path)!r:.200}")
    config = CurateConfig(
        sources=tuple(str(path) for path in paths),
        cut_characters=_DOCUMENT_CHARACTERS,
        validation_fraction=_HELD_OUT,
        test_fraction=_HELD_OUT,
    )
    return curate(config=config, workspace=workspace)


def method_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What came of it, for people."""
    lines = [
        f"{metrics['method']}: {metrics['trained_parameters']:,} of {metrics['parameters']:,} parameters trained, "
        f"{metrics['steps']:,} steps in {metrics['training_seconds']:.0f} s, rate {metrics['learning_rate']:.2g}"
    ]
    found = {k.removeprefix("validation_"): v for k, v in metrics.items() if k.startswith("validation_")}
    for name, value in found.items():
        if isinstance(value, float) and name != "seconds":
            before = metrics.get(f"before_{name}")
            said = f"{value:.4f}" if before is None else f"{before:.4f} before, {value:.4f} after"
            lines.append(f"validation {name.replace('_', ' ')}: {said}")
    lines += _first_and_last(metrics)
    if "kl_nats_per_token" in metrics:
        lines.append(f"KL from the model it was: {metrics['kl_nats_per_token']:.4f} nats per token of answers learnt")
    if "writing" in metrics:
        cost = metrics["writing"]
        joules = cost["energy_joules"]["central"]
        lines.append(
            f"the teacher wrote {cost['completion_tokens']:,} tokens in {cost['texts']:,} texts in "
            f"{cost['seconds']:.0f} s, "
            + ("joules unknown" if joules is None else f"{joules:,.0f} J ({cost['energy_joules']['method']})")
        )
    if metrics.get("left_out"):
        lines.append(f"left out, for they are too long: {metrics['left_out']:,}")
    if "forgetting" in metrics:
        lines += forgetting_lines(metrics["forgetting"])
    return lines


def _first_and_last(metrics: Mapping[str, Any]) -> list[str]:
    """Rewards of the answers drawn; the loss, where nothing is held out to say what became of it."""
    if len(rewards := [row[1] for row in metrics.get("reward_curve", ())]) > 1:
        part = max(1, min(10, len(rewards) // 4))
        first, last = (sum(some) / part for some in (rewards[:part], rewards[-part:]))
        of = "draw" if part == 1 else f"{part} draws"
        return [f"reward of answers drawn: {first:.4f} in the first {of}, {last:.4f} in the last of {len(rewards):,}"]
    losses = [row[2] for row in metrics.get("loss_curve", ())]
    if len(losses) > 1 and "validation_loss" not in metrics and "validation_reward" not in metrics:
        return [f"training loss: {losses[0]:.4f} at first, {losses[-1]:.4f} at last"]
    return []
