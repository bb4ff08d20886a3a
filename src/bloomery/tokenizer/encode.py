"""The tokenize stage: a corpus's documents as token shards.

This module does not know how shards are laid out (see `shards`) or read in training (see `packing`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.tokenizer.fast import batch_encoder
from bloomery.tokenizer.packing import PackedRows
from bloomery.tokenizer.shards import ShardWriter, TokenShards
from bloomery.tokenizer.tokenizer import Tokenizer

STAGE = "tokenize"
SPLITS = ("train", "validation", "test")
_VERSION = 1
_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 4096
_PROGRESS_SECONDS = 0.25
_HARDLY_USED = 1.1  # bytes a token


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    context_length: int = 256
    """The row length in tokens for which the report states the cropped and padded share; it changes no shard."""
    shard_bytes: int = 268_435_456
    """A shard is ended once it has this many bytes."""

    def __post_init__(self) -> None:
        if self.context_length < 8:
            raise ConfigError(f'"context_length" is {self.context_length}, but should be 8 or more')
        if self.shard_bytes < 1024:
            raise ConfigError(f'"shard_bytes" is {self.shard_bytes}, but should be 1024 or more')


def tokenize_inputs(corpus: Artifact, tokenizer: Artifact, *, config: TokenizeConfig | None = None) -> StageInputs:
    """What the result of `tokenize` depends on."""
    return StageInputs(
        stage=STAGE, config=to_dict(config or TokenizeConfig()), parents=(corpus.id, tokenizer.id), version=_VERSION
    )


def tokenize(
    corpus: Artifact,
    tokenizer: Artifact,
    *,
    config: TokenizeConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Encode every document of every split; an artifact of kind "tokens".

    Metrics: documents, tokens, text_bytes and bytes_per_token per split, and `packing`: the cropped and padded share
    of one epoch of the training split at `context_length`. Text that spells a special token stays text.
    """
    from bloomery.corpus import read_documents
    from bloomery.energy import open_meter

    workspace, config = as_workspace(workspace), config or TokenizeConfig()
    inputs = tokenize_inputs(corpus, tokenizer, config=config)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        codec = Tokenizer.load(tokenizer.path)
        encoder, slower = batch_encoder(codec)
        if slower:
            run.note(f"encoded by the tokenizers library, not by tiktoken's faster engine: {slower}")
        folder = run.new_folder()
        with (
            ShardWriter(
                folder,
                vocab_size=codec.vocab_size,
                bos_id=codec.separator_id,
                end_id=codec.end_id,
                tokenizer_id=tokenizer.id,
                shard_bytes=config.shard_bytes,
            ) as writer,
            run.phase("encode"),
        ):
            progress = _Progress(run, sum(corpus.metrics.get("text_bytes", {}).values()) or None)
            for split in SPLITS:
                writer.begin(split)
                texts = (document.text for document in read_documents(corpus, split))
                _encode_split(writer, encoder.encode_batch, split, texts, progress)
            counts = writer.close()
        if left := getattr(encoder, "left_to_library", ()):
            run.note(f"tiktoken's engine failed on {len(left)} pieces of text, encoded by the library: {left[0]}")
        if slower and (unused := _hardly_used(codec, counts)):
            run.note(unused)
        with run.phase("pack"):
            metrics = _report(counts, folder, config.context_length)
            metrics["encoder"] = "tokenizers" if slower else "tiktoken"
        return run.publish(folder, kind="tokens", metrics=metrics)


def _encode_split(
    writer: ShardWriter,
    encode: Callable[[Sequence[str]], list[list[int]]],
    split: str,
    texts: Iterable[str],
    progress: _Progress,
) -> None:
    for batch in _batches(texts):
        for text, ids in zip(batch, encode(batch), strict=True):
            size = len(text.encode())
            writer.add(split, ids, text_bytes=size)
            progress.done += size
        progress.show()


class _Progress:
    """Bytes of text encoded so far, shown a few times a second."""

    def __init__(self, run: Run, total: int | None) -> None:
        self._run = run
        self._total = total
        self._shown = 0.0
        self.done = 0

    def show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= _PROGRESS_SECONDS:
            self._shown = now
            self._run.progress(self.done, self._total, unit="bytes")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, bounded in number and in characters."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _hardly_used(codec: Tokenizer, counts: dict[str, dict[str, int]]) -> str:
    """What to say where a tokenizer of whole words (codons, k-mers) meets text that has none of them, or ""."""
    model, special = codec.description.get("model", {}), codec.special_ids
    if model.get("type") != "BPE" or model.get("merges"):
        return ""
    words = [text for text, index in model["vocab"].items() if len(text) > 1 and index not in special]
    text_bytes, tokens = (sum(count[key] for count in counts.values()) for key in ("text_bytes", "tokens"))
    if not words or not tokens or text_bytes >= _HARDLY_USED * tokens:
        return ""
    return (
        f"{text_bytes / tokens:.2f} bytes a token: this text has hardly any of the tokenizer's {len(words):,} words"
        f" ({words[0]}, {words[-1]}); is it of another kind, or in small letters?"
    )


def _report(counts: dict[str, dict[str, int]], folder: Path, context_length: int) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        key: {split: count[key] for split, count in counts.items()} for key in ("documents", "tokens", "text_bytes")
    }
    metrics["bytes_per_token"] = {
        split: round(count["text_bytes"] / count["tokens"], 4) if count["tokens"] else None
        for split, count in counts.items()
    }
    shards = TokenShards(folder, "train")
    if int(shards.num_labels().max(initial=0)) >= 2:
        metrics["packing"] = {"context_length": context_length, **packing_stats(shards, context_length)}
    return metrics


def packing_stats(shards: TokenShards, context_length: int) -> dict[str, float]:
    """`PackedRows.stats` of one whole epoch at seed 0."""
    packed = PackedRows(shards, context_length=context_length, seed=0)
    while packed.epoch == 0:
        packed.next_batch(1)
    return packed.stats
