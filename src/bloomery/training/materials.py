"""Materials: what an objective is made from, read from a corpus once, and the objective itself.

This module does not know models' sizes, steps or files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import nn

from bloomery.core.artifact import Artifact
from bloomery.corpus import PICTURES
from bloomery.tokenizer import PackedRows, Tokenizer, TokenShards
from bloomery.training.building import padding
from bloomery.training.causal import CausalObjective
from bloomery.training.examples import label_names, labelled_texts, tag_names, tagged_texts, text_pairs
from bloomery.training.labels import ClassificationObjective, RegressionObjective, TaggingObjective, TextReader
from bloomery.training.loader import ExampleLoader, RowLoader
from bloomery.training.masked import MaskedObjective
from bloomery.training.middle import MiddleObjective
from bloomery.training.objective import Objective
from bloomery.training.picture_materials import picture_examples, picture_labels, picture_objective
from bloomery.training.sequence import SequenceObjective
from bloomery.training.spans import SpanObjective
from bloomery.training.train_config import TrainConfig

_VALIDATION_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Materials:
    """Token shards, or examples in memory; `labels` are the names of classes or tags, `left_out` counts examples
    that are too long or empty; `target` is the tokenizer of targets that have their own."""

    tokenizer: Tokenizer | None
    target: Tokenizer | None = None
    train: TokenShards | None = None
    validation: TokenShards | None = None
    train_examples: list[Any] = field(default_factory=list)
    validation_examples: list[Any] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    left_out: int = 0
    pictures: bool = False

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        corpus: Artifact,
        tokens: Artifact | None,
        tokenizer: Tokenizer | None,
        target: Tokenizer | None = None,
    ) -> Materials:
        """What a config asks for; of pictures the labels alone, for their size is the model's (see `with_pictures`).
        DataError where the corpus does not have it."""
        if corpus.kind == PICTURES:
            labels = picture_labels(corpus, config.target_field) if config.objective == "classes" else []
            return cls(tokenizer=tokenizer, labels=tuple(labels), pictures=True)
        assert tokenizer is not None
        if tokens is not None:
            return cls(
                tokenizer=tokenizer, train=TokenShards(tokens, "train"), validation=TokenShards(tokens, "validation")
            )
        name, longest = config.field_name, config.context_length
        if config.objective == "sequence":
            parts = [
                text_pairs(corpus, split, tokenizer, target_field=name, max_length=longest, target=target)
                for split in ("train", "validation")
            ]
            return cls(
                tokenizer=tokenizer,
                target=target,
                train_examples=parts[0][0],
                validation_examples=parts[1][0],
                left_out=parts[0][1] + parts[1][1],
            )
        tags = config.objective == "tags"
        names = tag_names(corpus, name) if tags else label_names(corpus, name) if config.objective == "classes" else []
        read = tagged_texts if tags else labelled_texts
        known: Any = None if config.objective == "values" else names
        splits = [
            read(corpus, split, tokenizer, field=name, names=known, max_length=longest)
            for split in ("train", "validation")
        ]
        return cls(tokenizer=tokenizer, train_examples=splits[0], validation_examples=splits[1], labels=tuple(names))

    def with_pictures(self, config: TrainConfig, corpus: Artifact, size: int) -> Materials:
        """The same with the pictures themselves, `size` x `size`."""
        train, held_out = (
            picture_examples(corpus, split, config, self.tokenizer, self.labels, size)
            for split in ("train", "validation")
        )
        return replace(self, train_examples=train, validation_examples=held_out)

    def steps_an_epoch(self, rows: int) -> float:
        """Batches of `rows` that all examples make; 0 for token rows, whose number depends on packing."""
        return max(1, len(self.train_examples) // rows) if self.train_examples else 0.0


def objective_for(config: TrainConfig, model: nn.Module, materials: Materials) -> Objective:
    """The objective that a config names, over its materials. Each is given the kind of model that `building` makes
    for it. ConfigError where the tokenizer lacks a token."""
    if materials.pictures:
        return picture_objective(config, model, materials.train_examples, materials.validation_examples)
    rows, seed = config.fit.batch_rows, config.fit.seed
    net, tokenizer = cast(Any, model), materials.tokenizer
    assert tokenizer is not None
    if materials.train is not None:
        packed = PackedRows(materials.train, context_length=config.context_length, seed=seed)
        held_out, few = materials.validation, min(rows, _VALIDATION_ROWS)
        if config.objective == "causal":
            return CausalObjective(net, packed, held_out, validation_rows=few)
        if config.objective == "middle":
            return MiddleObjective(net, packed, held_out, tokenizer, config.middle, seed=seed, validation_rows=few)
        loader = RowLoader(packed, held_out, validation_rows=few)
        if config.objective == "masked":
            return MaskedObjective(net, loader, tokenizer, config.masking, seed=seed)
        return SpanObjective(net, loader, tokenizer, config.spans, seed=seed)
    examples, held = materials.train_examples, materials.validation_examples
    if config.objective == "sequence":
        lengths = [len(pair.source) + len(pair.target) for pair in examples]
        pairs = ExampleLoader(examples, held, rows=rows, seed=seed, lengths=lengths)
        return SequenceObjective(net, pairs, seed=seed, label_smoothing=config.label_smoothing)
    lengths = [len(example.input_ids) for example in examples]
    loader = ExampleLoader(examples, held, rows=rows, seed=seed, lengths=lengths)
    reader = TextReader(padding(tokenizer))
    if config.objective == "tags":
        return TaggingObjective(net, loader, reader, seed=seed)
    kind = ClassificationObjective if config.objective == "classes" else RegressionObjective
    return kind(net, loader, reader, seed=seed)
