"""Training a tokenizer on a corpus, with the `tokenizers` library: byte-level BPE unless asked for another kind.

The pre-tokenizer splits as GPT-4 and Qwen do: words with one leading space or mark, runs of marks, line breaks, and
digits in groups of up to three. All 256 bytes are in the vocabulary, so any text can be encoded. What is saved is a
folder that `transformers`, Transformers.js and llama.cpp's converter read.

This module does not know models, nor how documents are stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.tokenizer.config import MIN_VOCAB_SIZE, TokenizerConfig, plain_config
from bloomery.tokenizer.counts import WordCounts, counter_of
from bloomery.tokenizer.kinds import UNKNOWN, bpe_trainer, characters, from_words, sequence_letters, splitter
from bloomery.tokenizer.special import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    ILLUSTRATED_CHAT_TEMPLATE,
    IMAGE,
    MASK,
    START_OF_TEXT,
    WORDPIECE_UNKNOWN,
)
from bloomery.tokenizer.tokenizer import CONFIG_FILE, SPECIAL_FILE, TEMPLATE_FILE, TOKENIZER_FILE, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

__all__ = ["MIN_VOCAB_SIZE", "TokenizerConfig", "learn", "train_tokenizer", "train_tokenizer_inputs", "write_tokenizer"]

STAGE = "train_tokenizer"
_VERSION = 1
# A document is handed to the trainer in pieces of about this many characters: it copies what it is given.
_PIECE_CHARACTERS = 1 << 16
_PROGRESS_DOCUMENTS = 256


def train_tokenizer_inputs(corpus: Artifact, *, config: TokenizerConfig | None = None) -> StageInputs:
    """What the result of `train_tokenizer` depends on."""
    return StageInputs(
        stage=STAGE, config=plain_config(config or TokenizerConfig()), parents=(corpus.id,), version=_VERSION
    )


def train_tokenizer(
    corpus: Artifact,
    *,
    config: TokenizerConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Train a tokenizer on the corpus's training split; an artifact of kind "tokenizer".

    The same corpus and config give the same files. With `fresh` it is trained even if it exists.
    """
    from bloomery.energy import open_meter

    workspace, config = as_workspace(workspace), config or TokenizerConfig()
    inputs = train_tokenizer_inputs(corpus, config=config)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        sample = _Sample(_texts(corpus, config), config.sample_bytes, run)
        counted: dict[str, int] = {}
        with run.phase("train"), TemporaryDirectory(dir=run.scratch) as scratch:
            backend = learn(sample, config, folder=Path(scratch), facts=counted.update)
        folder = run.new_folder()
        write_tokenizer(backend, folder)
        metrics = {
            "vocab_size": backend.get_vocab_size(),
            "sample_bytes": sample.bytes,
            "sample_documents": sample.documents,
            **counted,
        }
        if counted.get("left_out"):
            run.note(
                f"learnt from the {counted['words']:,} most frequent words:"
                f" {counted['left_out'] / counted['occurrences']:.3%} of the text is in others"
            )
        if backend.get_vocab_size() < config.vocab_size and not config.alphabet_size:
            run.note(
                f"the text holds only enough pairs for {backend.get_vocab_size():,} tokens, not {config.vocab_size:,}"
            )
        return run.publish(folder, kind="tokenizer", metrics=metrics)


def learn(
    texts: Iterable[str],
    config: TokenizerConfig,
    *,
    folder: Path | None = None,
    facts: Callable[..., None] = lambda **_: None,
) -> Backend:
    """A trained `tokenizers.Tokenizer`. DataError if there is no text at all.

    Words that are counted first go to `folder` where they are many; `facts` hears how many there were.
    """
    from tokenizers import processors

    if config.alphabet_size:
        backend = sequence_letters(config)
    elif config.kind == "character":
        backend = characters(texts, config)
    elif config.counts:
        counts = WordCounts(counter_of(splitter(config)), max_words=config.max_words, folder=folder)
        counts.add(texts)
        words = counts.most()
        facts(words=len(words), occurrences=counts.occurrences, left_out=counts.left_out, spills=counts.spills)
        backend = from_words(words, config)
    else:
        backend = splitter(config)
        backend.train_from_iterator(texts, bpe_trainer(config))
    if backend.decoder is None:
        from tokenizers import decoders

        backend.decoder = decoders.ByteLevel()
    # BOS in front of every text, as Llama's tokenizers do it; chat templates write their own.
    first, last = (START_OF_TEXT, f" {END_OF_TEXT}") if config.encloses else (END_OF_TEXT, "")
    ends = [END_OF_TEXT, START_OF_TEXT] if config.encloses else [END_OF_TEXT]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A{last}",
        pair=f"{first} $A {END_OF_TEXT} $B:1{last and last + ':1'}",
        special_tokens=[(text, backend.token_to_id(text)) for text in ends],
    )
    return backend


def write_tokenizer(backend: Backend, folder: Path) -> None:
    """Write the files of a Hugging Face tokenizer folder."""
    tokens = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
    others = [token.content for token in backend.get_added_tokens_decoder().values() if token.content != END_OF_TEXT]
    for unknown in (UNKNOWN, WORDPIECE_UNKNOWN):
        if unknown in others:
            tokens["unk_token"] = unknown
            others.remove(unknown)
    if START_OF_TEXT in others:
        tokens["bos_token"] = START_OF_TEXT
        others.remove(START_OF_TEXT)
    if MASK in others:
        tokens["mask_token"] = MASK
        others.remove(MASK)
    template = ILLUSTRATED_CHAT_TEMPLATE if IMAGE in others else CHAT_TEMPLATE
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **tokens,
        "additional_special_tokens": others,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,  # the model's config.json says how long a text may be
        "chat_template": template,
    }
    special = {**tokens, "additional_special_tokens": others}
    (folder / TOKENIZER_FILE).write_text(backend.to_str(pretty=True), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(_json(config), encoding="utf-8")
    (folder / SPECIAL_FILE).write_text(_json(special), encoding="utf-8")
    (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    Tokenizer.load(folder)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _texts(corpus: Artifact, config: TokenizerConfig) -> Iterator[str]:
    """The training split's texts, or its pictures' captions, and those in fields of the metadata, as configured."""
    if corpus.kind == "pictures":
        from bloomery.corpus import read_pictures as read
    else:
        from bloomery.corpus import read_documents as read
    for document in read(corpus, "train"):
        if config.texts:
            yield document.text
        for name in config.metadata_fields:
            value = document.metadata.get(name)
            if isinstance(value, str):
                yield value


class _Sample:
    """Documents in pieces, up to a number of bytes; counts what it gave and reports progress."""

    def __init__(self, texts: Iterable[str], limit: int, run: Run) -> None:
        self._texts = texts
        self._limit = limit
        self._run = run
        self.bytes = 0
        self.documents = 0

    def __iter__(self) -> Iterator[str]:
        for piece in self._all_pieces():
            if self.bytes >= self._limit:
                self._run.note(f"the tokenizer is trained on the first {self.bytes:,} bytes of the training split")
                return
            self.bytes += len(piece.encode())
            yield piece
        if not self.bytes:
            raise DataError("the training split holds no text", hint="add documents and run `bloomery curate` again")

    def _all_pieces(self) -> Iterator[str]:
        for text in self._texts:
            if self.documents % _PROGRESS_DOCUMENTS == 0:
                self._run.progress(self.bytes, None, unit="bytes")
            self.documents += 1
            yield from _pieces(text)


def _pieces(text: str) -> Iterator[str]:
    """A text cut after line breaks into pieces of about _PIECE_CHARACTERS."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        cut = text.rfind("\n", start, start + _PIECE_CHARACTERS) + 1 or start + _PIECE_CHARACTERS
        yield text[start:cut]
        start = cut
    yield text[start:]
