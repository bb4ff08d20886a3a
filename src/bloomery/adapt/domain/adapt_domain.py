"""Domain adaptation as a stage: a model and a domain's corpus in, a model that knows the domain out, and what it
forgot.

    tokens -> score before -> rows of the domain, general ones among them -> fit -> score after -> publish

Killed at any instant, the same call goes on from its last checkpoint. This module does not know how a step is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from bloomery.adapt.domain.config import DomainConfig
from bloomery.adapt.domain.forgetting import Change, change, document_bits
from bloomery.adapt.domain.replay import ReplayObjective
from bloomery.adapt.starting import STAGE, Start, begin_anew
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus import read_documents
from bloomery.energy import open_meter
from bloomery.tokenizer import PackedRows, TokenizeConfig, TokenShards, tokenize
from bloomery.training.fit import fit
from bloomery.training.speed import choose_device

REPORT = "forgetting.json"
_LONGEST_ROW = 1024
_HELD_OUT = ("test", "validation")


def adapt_domain(
    model: Artifact,
    domain: Artifact,
    *,
    general: Artifact | None = None,
    controls: Mapping[str, Artifact] | None = None,
    config: DomainConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Train a model on a domain's corpus with general text replayed; returns a "model" (or "adapter") artifact with
    `forgetting.json`.

    `general` is a corpus like what the model was trained on; `controls` are corpora of something else, by name. Bits
    per byte before and after are of documents that are held out (of a control, of any). An equal call returns the same
    artifact without training, unless `fresh`. Raises ConfigError, DataError, TrainingError.
    """
    workspace, config = as_workspace(workspace), config or DomainConfig()
    if config.replay and general is None:
        raise ConfigError("there is no general corpus to replay", hint="give one, or replay=0")
    controls = dict(controls or {})
    if {"in-domain", "out-of-domain"} & controls.keys():
        raise ConfigError("a control has a name of its own")
    inputs = StageInputs(
        stage=STAGE,
        config={"method": "domain", **to_dict(config), "general": general is not None, "controls": sorted(controls)},
        parents=(model.id, domain.id, *([general.id] if general else []), *(controls[n].id for n in sorted(controls))),
        seed=config.fit.seed,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    lora = config.lora if config.weights == "lora" else None
    start = Start.of(model, lora, seed=config.fit.seed)
    length = config.context_length or min(_LONGEST_ROW, start.decoder.context_length)
    if length > start.decoder.context_length:
        raise ConfigError(f"{model.name} reads {start.decoder.context_length:,} tokens at most, not {length:,}")
    how = TokenizeConfig(context_length=length)
    tokens = [tokenize(c, model, config=how, workspace=workspace) for c in (domain, general) if c is not None]
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            begin_anew(run)
        corpora = {"in-domain": domain, **({"out-of-domain": general} if general else {}), **controls}
        return _Adapting(run, config, start, corpora, length).publish(tokens)


class _Adapting:
    def __init__(
        self, run: Run, config: DomainConfig, start: Start, corpora: Mapping[str, Artifact], length: int
    ) -> None:
        self.run, self.config, self.start, self.length = run, config, start, length
        seen = ("in-domain", "out-of-domain")
        self.texts = {
            kind: sample_texts(corpus, config.report_documents, config.fit.seed, held_out=kind in seen)
            for kind, corpus in corpora.items()
        }

    def publish(self, tokens: list[Artifact]) -> Artifact:
        """Train, measure and publish."""
        config, decoder = self.config, self.start.decoder
        torch.manual_seed(config.fit.seed)
        decoder.to(choose_device(config.fit.device))
        before = self._bits("score before")
        domain, *general = tokens
        objective = ReplayObjective(
            decoder,
            self._rows(domain),
            TokenShards(domain, "validation"),
            general=self._rows(general[0]) if general and config.replay else None,
            general_validation=TokenShards(general[0], "validation") if general and config.replay else None,
            replay=config.replay,
            validation_rows=min(config.fit.batch_rows, 64),
        )
        rows = int(TokenShards(domain, "train").num_labels().sum()) / self.length
        steps_an_epoch = rows / max(1e-9, config.fit.batch_rows * (1 - config.replay))
        fitting = self.start.rated(config.fit)
        fitted = fit(self.run, objective, fitting, steps_an_epoch=steps_an_epoch, stage=STAGE)
        after = self._bits("score after")
        changes = self._changes(before, after)
        report = {
            "changes": [one.to_dict() for one in changes],
            "bits": {
                kind: [
                    {"bytes": len(text.encode()), "before": float(b), "after": float(a)}
                    for text, b, a in zip(self.texts[kind], before[kind], after[kind], strict=True)
                ]
                for kind in self.texts
            },
        }
        path = self.run.scratch / REPORT
        write_durably(path, json.dumps(report, indent=1).encode())
        metrics = {
            "method": "domain",
            "weights": config.weights,
            "learning_rate": fitting.learning_rate,
            "forgetting": report["changes"],
            **fitted.metrics,
        }
        return self.start.publish(self.run, metrics, files=[path])

    def _rows(self, tokens: Artifact) -> PackedRows:
        return PackedRows(TokenShards(tokens, "train"), context_length=self.length, seed=self.config.fit.seed)

    def _bits(self, phase: str) -> dict[str, np.ndarray]:
        decoder, tokenizer = self.start.decoder, self.start.tokenizer
        with self.run.phase(phase):
            found = {}
            for kind, texts in self.texts.items():
                found[kind] = document_bits(decoder, tokenizer, texts, told=self._teller(kind))
            return found

    def _teller(self, kind: str) -> Callable[[int], None]:
        return lambda done: self.run.progress(done, len(self.texts[kind]), unit="documents", doing=kind)

    def _changes(self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[Change]:
        how = {"resamples": self.config.resamples, "seed": self.config.fit.seed}
        return [change(kind, texts, before[kind], after[kind], **how) for kind, texts in self.texts.items()]


def sample_texts(corpus: Artifact, count: int, seed: int, *, held_out: bool) -> list[str]:
    """At most `count` documents that are not blank, drawn from the seed: of the test split, or of validation where
    there is none, if they must be `held_out`; else of all splits."""
    documents = corpus.metrics.get("documents", {})
    splits = [name for name in ("train", *_HELD_OUT) if documents.get(name)]
    if held_out:
        splits = [next((name for name in _HELD_OUT if documents.get(name)), "validation")]
    texts = [one.text for split in splits for one in read_documents(corpus, split) if one.text.strip()]
    if len(texts) > count:
        chosen = np.random.default_rng(seed).choice(len(texts), count, replace=False)
        texts = [texts[number] for number in sorted(chosen.tolist())]
    return texts
