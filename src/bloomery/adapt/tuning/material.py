"""Material: what a tuning is made of: the model with what is to be trained of it, and the objective over the data.

This module does not know runs or artifacts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from bloomery.adapt.tuning.adapter_files import load_adapter
from bloomery.adapt.tuning.config import AdaptConfig
from bloomery.adapt.tuning.instruct_data import Example
from bloomery.adapt.tuning.lora import add_lora, trainable
from bloomery.adapt.tuning.sft import SftObjective
from bloomery.adapt.tuning.sft_tokens import Encoder, Row, held_out, packed, with_template
from bloomery.core.errors import ConfigError, DataError
from bloomery.engine.loading import kind_of_folder, read_label_names
from bloomery.models import Decoder, load_pretrained
from bloomery.models.four_bit import to_four_bits
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import padding, rebuild
from bloomery.training.examples import places_of, sorted_labels
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Objective

CHAT, LABELS = "answers", "labels"


@dataclass(frozen=True, kw_only=True)
class Material:
    """See the module. `kind` is what is learnt, "answers" or "labels"; `prompts` are held-out ids and what is
    expected; `notes` say what became of the data."""

    kind: str
    objective: Objective
    tokenizer: Tokenizer
    hidden_size: int
    steps_an_epoch: float
    metrics: dict[str, Any]
    labels: tuple[str, ...] = ()
    prompts: tuple[tuple[list[int], str], ...] = ()
    notes: tuple[str, ...] = field(default=())


def chat_material(
    config: AdaptConfig,
    folder: Path,
    examples: Sequence[Example],
    validation: Sequence[Example],
    adapter: Path | None = None,
) -> Material:
    """Answers to learn, by a decoder, with an adapter to go on with or a new one. ConfigError for another model,
    DataError where nothing is left to learn."""
    if kind_of_folder(folder).name != "decoder":
        raise ConfigError(f"{folder.name} is no language model: it cannot learn answers", hint="give texts with labels")
    decoder, tokenizer = load_pretrained(folder, dtype=torch.float32), with_template(Tokenizer.load(folder))
    encoder = Encoder(tokenizer, min(config.context_length, decoder.context_length))
    train, held, equal = _split(config, examples, validation)
    texts, others = encoder(train), encoder(held)
    if not texts:
        raise DataError(
            f"of {len(examples):,} examples nothing is left to learn", hint="--set adapt.context_length=..."
        )
    rows = packed(texts, encoder.context_length) if config.packing else [Row((text,)) for text in texts]
    model, metrics = prepared(config, decoder, adapter)
    lengths = None if config.packing else [row.length for row in rows]
    loader = ExampleLoader(
        rows, [Row((text,)) for text in others], rows=config.fit.batch_rows, seed=config.fit.seed, lengths=lengths
    )
    prompts = [found for one in held[: 4 * config.samples] if (found := encoder.prompt(one))]
    room = encoder.context_length - config.sample_tokens
    return Material(
        kind=CHAT,
        objective=SftObjective(cast(Decoder, model), loader, seed=config.fit.seed),
        tokenizer=tokenizer,
        hidden_size=decoder.config.hidden_size,
        steps_an_epoch=max(1, len(rows) // config.fit.batch_rows),
        metrics={
            **metrics,
            "examples_given": len(examples) + len(validation),
            "examples_cut": encoder.cut,
            "examples_left_out": encoder.left_out,
            "examples_equal": equal,
            "rows": len(rows),
            "learnt_tokens_an_epoch": sum(text.num_learnt for text in texts),
        },
        prompts=tuple(prompt for prompt in prompts if len(prompt[0]) <= room)[: config.samples],
        notes=(*_notes(encoder, equal, len(train) + len(held)), *_learnt_too(train, held)),
    )


def label_material(
    config: AdaptConfig,
    folder: Path,
    examples: Sequence[Example],
    validation: Sequence[Example],
    adapter: Path | None = None,
) -> Material:
    """Labels to learn, by a decoder or an encoder with a new head, or with an adapter's, whose labels they then are."""
    tokenizer = Tokenizer.load(folder)
    train, held, equal = _split(config, examples, validation)
    known = read_label_names(adapter) if adapter is not None else []
    names = known or sorted_labels({str(one.label) for one in train}, "label")
    model = rebuild("classes", folder, tokenizer, num_labels=len(names))
    context = int(getattr(model, "context_length", 0) or getattr(model.config, "context_length", config.context_length))
    most = min(config.context_length, context)
    place = places_of(names)

    def labelled(parts: Sequence[Example]) -> list[LabelledText]:
        ids = [tokenizer.encode_with_special(one.answer, max_length=most)[0] for one in parts]
        return [LabelledText(i, place(str(one.label), one.where)) for i, one in zip(ids, parts, strict=True)]

    texts, others = labelled(train), labelled(held)
    model, metrics = prepared(config, model, adapter)
    lengths = [len(text.input_ids) for text in texts]
    loader = ExampleLoader(texts, others, rows=config.fit.batch_rows, seed=config.fit.seed, lengths=lengths)
    if others:  # what an accuracy over them is to be held against
        commonest = Counter(one.label for one in others).most_common(1)[0][1]
        metrics |= {"validation_examples": len(others), "validation_commonest": commonest / len(others)}
    cut = sum(length == most for length in lengths)
    notes = [f"{cut:,} texts fill the {most} tokens that are read, and may be cut"] if cut else []
    return Material(
        kind=LABELS,
        objective=ClassificationObjective(model, loader, TextReader(padding(tokenizer)), seed=config.fit.seed),
        tokenizer=tokenizer,
        hidden_size=int(model.config.hidden_size),  # type: ignore[union-attr, arg-type]
        steps_an_epoch=max(1, len(texts) // config.fit.batch_rows),
        metrics={
            **metrics,
            "labels": names,
            "examples_given": len(examples) + len(validation),
            "examples_equal": equal,
        },
        labels=tuple(names),
        notes=(*notes, *_learnt_too(train, held)),
    )


def prepared(config: AdaptConfig, model: nn.Module, adapter: Path | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The model with what the method trains, and how much that is and holds. `adapter`: a folder to go on with, whose
    own settings count."""
    metrics: dict[str, Any] = {}
    decoder = model if isinstance(model, Decoder) else getattr(model, "decoder", None)
    if config.recompute:
        if not isinstance(decoder, Decoder):
            raise ConfigError('"adapt.recompute" is for decoders')
        decoder.recomputes = True
    if config.method == "full":
        if adapter is not None:
            raise ConfigError("all weights are trained without an adapter", hint="bloomery adapt merge, and tune that")
        model.requires_grad_(True)
    else:
        if config.method == "qlora":
            before, after = to_four_bits(model, config.base, double=config.double and config.base == "nf4")
            metrics |= {"base": config.base, "base_linear_bytes_plain": before, "base_linear_bytes": after}
        if config.fit.precision == "bfloat16":
            model.bfloat16()  # what is frozen needs no more
        if adapter is not None:
            load_adapter(model, adapter, lora_dropout=config.lora.lora_dropout)
        else:
            add_lora(model, config.adapter())
    parts = trainable(model)
    buffers = {id(one): one for one in (*model.parameters(), *model.buffers())}
    return model.train(), {
        **metrics,
        "trained_parameters": sum(part.numel() for part in parts.values()),
        "model_bytes": sum(one.nbytes for one in buffers.values()),
    }


def _split(
    config: AdaptConfig, examples: Sequence[Example], validation: Sequence[Example]
) -> tuple[list[Example], list[Example], int]:
    if validation:
        train, _, equal = held_out(examples, 0.0, 0)
        return train, list(validation)[: config.validation_examples], equal
    return held_out(examples, config.validation_fraction, config.validation_examples)


def _learnt_too(train: Sequence[Example], held: Sequence[Example]) -> list[str]:
    """A file of held-out examples may hold some of those that are learnt: its figures are too good then."""
    known = {one.identity for one in train}
    number = sum(one.identity in known for one in held)
    return [f"{number:,} of {len(held):,} held-out examples are learnt from, too: validation is too good"] * bool(
        number
    )


def _notes(encoder: Encoder, equal: int, count: int) -> list[str]:
    said = [
        (encoder.cut, f"of {count:,} examples are longer than {encoder.context_length:,} tokens and cut there"),
        (encoder.left_out, f"of {count:,} examples are left out: nothing of an answer is in what is read"),
        (encoder.open_ended, "conversations have no token after an answer: a model will not learn to stop"),
        (equal, "examples are equal to others, and are read once"),
    ]
    return [f"{number:,} {what}" for number, what in said if number]
