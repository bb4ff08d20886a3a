"""Stages: an embedding model, and a reranker, trained from judged questions; an encoder goes in, an encoder comes out.

    judgements, a retriever to mine with -> hard negatives -> fit -> publish

The encoder that goes in can be one that learnt to fill blanks here, or any BERT-family folder. Killed at any instant,
the same call goes on from its last checkpoint. This module does not know losses (see `training.text_pairs` and
`training.relevance`) nor how passages are searched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine.finding import find_model
from bloomery.engine.loading import kind_of_folder
from bloomery.models.encoder import Encoder, load_encoder
from bloomery.models.pooling import Pooling, pooling_files
from bloomery.retrieve.chunk import Retriever
from bloomery.retrieve.learning.judgements import Judgements
from bloomery.retrieve.learning.mining import MiningConfig, hard_negatives, pairs_of
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import thawed, with_head
from bloomery.training.fit import FitConfig, Fitted, fit
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Objective
from bloomery.training.publishing import save_model
from bloomery.training.relevance import LabelledPair, RelevanceObjective
from bloomery.training.text_pairs import SCALE, TextContrastiveObjective, TextGroup

_FIT = FitConfig(
    epochs=2.0,
    batch_rows=32,
    optimizer="adamw",
    learning_rate=3e-5,
    weight_decay=0.01,
    max_norm=1.0,
    warmup_fraction=0.1,
    decay_fraction=0.9,
    validations=2,
)


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """How an embedding model is trained."""

    max_length: int = 256
    """Tokens of a text, special ones included; the rest is cut."""
    scale: float = SCALE
    """What cosines are multiplied with."""
    both: bool = False
    """Learn in both directions."""
    mining: MiningConfig = field(default_factory=MiningConfig)
    """Hard negatives."""
    fit: FitConfig = _FIT
    """How long and how fast."""


@dataclass(frozen=True, kw_only=True)
class RerankerConfig:
    """How a cross-encoder is trained."""

    max_length: int = 256
    """Tokens of question and passage together; the longer of the two is cut first."""
    mining: MiningConfig = field(default_factory=lambda: MiningConfig(count=4))
    """Passages that are no answers."""
    fit: FitConfig = _FIT
    """How long and how fast."""


def train_embedder(
    start: Artifact | str | Path,
    judgements: Judgements,
    miner: Retriever,
    *,
    validation: Judgements | None = None,
    config: EmbedderConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """An encoder artifact whose vectors bring questions near their passages: `bl.load(...).embed(texts)`.

    `start` is an encoder (artifact, folder, name); its pooling is kept, or the mean over tokens taken. `miner` finds
    hard negatives: a lexical search over the passages, whose document ids are their names. `validation` are questions
    that are not learnt from. An equal call returns the same artifact without training, unless `fresh`. ConfigError,
    DataError, TrainingError.
    """
    config = config or EmbedderConfig()

    def objective(run: Run, encoder: Encoder, tokenizer: Tokenizer, pooling: Pooling | None) -> Objective:
        read = _reader(tokenizer, encoder, config.max_length, pooling)
        parts = [_groups(read, one, miner, config.mining) if one else [] for one in (judgements, validation)]
        loader = ExampleLoader(parts[0], parts[1], rows=config.fit.batch_rows, seed=config.fit.seed)
        return TextContrastiveObjective(
            encoder, loader, pooling=pooling, scale=config.scale, both=config.both, seed=config.fit.seed
        )

    pieces = _Pieces("train-embedder", to_dict(config), config.fit, judgements, validation, miner.name)
    return _trained(start, pieces, objective, "none", as_workspace(workspace), fresh)


def train_reranker(
    start: Artifact | str | Path,
    judgements: Judgements,
    miner: Retriever,
    *,
    validation: Judgements | None = None,
    config: RerankerConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """An encoder artifact with one output: the log-odds that a passage answers a question, `value(query, passage)`.
    Otherwise as `train_embedder`."""
    config = config or RerankerConfig()

    def objective(run: Run, encoder: Encoder, tokenizer: Tokenizer, pooling: Pooling | None) -> Objective:
        parts = [
            _pairs(tokenizer, encoder, config.max_length, one, miner, config.mining) if one else []
            for one in (judgements, validation)
        ]
        lengths = [len(pair.input_ids) for pair in parts[0]]
        loader = ExampleLoader(parts[0], parts[1], rows=config.fit.batch_rows, seed=config.fit.seed, lengths=lengths)
        return RelevanceObjective(encoder, loader, seed=config.fit.seed)

    pieces = _Pieces("train-reranker", to_dict(config), config.fit, judgements, validation, miner.name)
    return _trained(start, pieces, objective, "sequence", as_workspace(workspace), fresh)


@dataclass(frozen=True)
class _Pieces:
    stage: str
    config: dict[str, Any]
    fit: FitConfig
    judgements: Judgements
    validation: Judgements | None
    miner: str

    def inputs(self, parents: Sequence[str], folder: str) -> StageInputs:
        held_out = self.validation.fingerprint if self.validation else ""
        seen = digest([self.judgements.fingerprint, held_out, self.miner, folder])
        return StageInputs(stage=self.stage, config=self.config, parents=parents, fingerprint=seen, seed=self.fit.seed)


def _trained(
    start: Artifact | str | Path,
    pieces: _Pieces,
    objective: Callable[[Run, Encoder, Tokenizer, Pooling | None], Objective],
    head: str,
    workspace: Workspace,
    fresh: bool,
) -> Artifact:
    folder, name = find_model(start, workspace)
    if kind_of_folder(folder).name != "encoder":
        raise ConfigError(f"{name} is no encoder", hint="a BERT-family folder, or a model that learnt to fill blanks")
    made = _artifact_of(folder)
    inputs = pieces.inputs((made.id,) if made else (), "" if made else _digest_of(folder))
    if not fresh and (known := reusable(workspace, inputs)):
        return known
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            shutil.rmtree(run.scratch / "checkpoints", ignore_errors=True)
            (run.scratch / "fit.json").unlink(missing_ok=True)
        tokenizer, pooling = Tokenizer.load(folder), Pooling.from_folder(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(pieces.fit.seed)
            encoder = thawed(with_head(load_encoder(folder), head, 1))
            assert isinstance(encoder, Encoder)
            with run.phase("mine"):
                learnt = objective(run, encoder, tokenizer, pooling)
            steps = _examples(learnt) / pieces.fit.batch_rows
            fitted = fit(run, learnt, pieces.fit, steps_an_epoch=steps, stage=f"{pieces.stage}.fit")
        return _published(run, pieces, encoder, tokenizer, folder, head, fitted)


def _published(
    run: Run, pieces: _Pieces, encoder: Encoder, tokenizer: Tokenizer, start: Path, head: str, fitted: Fitted
) -> Artifact:
    folder = run.new_folder("model")
    kind = save_model(encoder.to("cpu").eval(), folder)
    tokenizer.save(folder)
    for file in pooling_files(start) if head == "none" else ():
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(start / file, folder / file)
    return run.publish(folder, kind=kind, metrics={"objective": pieces.stage, **fitted.metrics})


def _examples(objective: Objective) -> int:
    loader = getattr(objective, "loader")  # noqa: B009 - both objectives here are BatchObjectives
    return len(loader.train)


def _artifact_of(folder: Path) -> Artifact | None:
    from bloomery.core.artifact import MANIFEST

    return Artifact.open(folder) if (folder / MANIFEST).is_file() else None


def _digest_of(folder: Path) -> str:
    """Of a folder that is no artifact: names, sizes and the config's content."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    config = (folder / "config.json").read_text(encoding="utf-8", errors="replace")
    return digest([[path.name, path.stat().st_size, int(path.stat().st_mtime)] for path in files] + [config])


Read = Callable[[str], list[int]]


def _reader(tokenizer: Tokenizer, encoder: Encoder, max_length: int, pooling: Pooling | None) -> Read:
    limit = min(max_length, encoder.context_length)
    lower = pooling is not None and pooling.lower_case
    return lambda text: tokenizer.encode_with_special(text.lower() if lower else text, max_length=limit)[0]


def _groups(read: Read, judgements: Judgements, miner: Retriever, mining: MiningConfig) -> list[TextGroup]:
    """A group for each question and passage that answers it."""
    mined = hard_negatives(miner, judgements, mining)
    ids: dict[str, list[int]] = {}

    def passage(name: str) -> list[int]:
        if name not in ids:
            ids[name] = read(judgements.passages[name])
        return ids[name]

    made: list[TextGroup] = []
    for query, relevant in judgements.relevant.items():
        for right in sorted(relevant):
            keys = (right, *mined[query])
            passages = tuple(passage(key) for key in keys)
            asked = read(judgements.queries[query])
            made.append(TextGroup(query_ids=asked, passage_ids=passages, keys=keys, relevant=relevant))
    return made


def _pairs(
    tokenizer: Tokenizer,
    encoder: Encoder,
    max_length: int,
    judgements: Judgements,
    miner: Retriever,
    mining: MiningConfig,
) -> list[LabelledPair]:
    limit = min(max_length, encoder.context_length)
    made: list[LabelledPair] = []
    for query, name, label in pairs_of(judgements, hard_negatives(miner, judgements, mining)):
        asked, passage = judgements.queries[query], judgements.passages[name]
        ids, types = tokenizer.encode_with_special(asked, passage, max_length=limit)
        made.append(LabelledPair(input_ids=ids, token_type_ids=types, label=label))
    return made
