"""Training a byte-level BPE tokenizer on a corpus, with the `tokenizers` library.

The pre-tokenizer splits as GPT-4 and Qwen do: words with one leading space or mark, runs of marks, line breaks, and
digits in groups of up to three. All 256 bytes are in the vocabulary, so any text can be encoded. What is saved is a
folder that `transformers`, Transformers.js and llama.cpp's converter read.

This module does not know models, nor how documents are stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.tokenizer.special import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    ILLUSTRATED_CHAT_TEMPLATE,
    IMAGE,
    MASK,
    MIDDLE_TOKENS,
    SENTINEL,
    SPECIAL_TOKENS,
    START_OF_TEXT,
)
from bloomery.tokenizer.tokenizer import CONFIG_FILE, SPECIAL_FILE, TEMPLATE_FILE, TOKENIZER_FILE, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

STAGE = "train_tokenizer"
_VERSION = 1
MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
_MAX_VOCAB_SIZE = 1 << 20
# A document is handed to the trainer in pieces of about this many characters: it copies what it is given.
_PIECE_CHARACTERS = 1 << 16
_PROGRESS_DOCUMENTS = 256
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    vocab_size: int = 4096
    """Ids in all, special tokens included; at least 259 (256 bytes and 3 special tokens, no merges)."""
    min_frequency: int = 2
    """How often a pair of tokens must occur to be merged."""
    digits: int = 3
    """Digits are split into groups of at most this many: 3 as GPT-4 and Llama 3 do, 1 as Qwen does."""
    sample_bytes: int = 200_000_000
    """Merges are learned on at most this many bytes of the training split: the trainer's memory grows with them."""
    max_token_bytes: int = 32
    """No token is longer than this many bytes."""
    masks: bool = False
    """Add a token that stands in a blank, for masked models."""
    sentinels: int = 0
    """Add this many tokens that stand for spans, for span corruption; T5 has 100."""
    fill_in_the_middle: bool = False
    """Add tokens that mark prefix, middle and suffix."""
    encloses: bool = False
    """A text begins with a token of its own and ends with the end token, as contrastive models read it."""
    images: bool = False
    """Add a token that stands where a picture is."""
    metadata_fields: tuple[str, ...] = ()
    """Learn from these texts of each document's metadata, too: translations, say."""
    texts: bool = True
    """Learn from the documents' own texts; else from `metadata_fields` alone."""

    def __post_init__(self) -> None:
        limits = {
            "vocab_size": (MIN_VOCAB_SIZE, _MAX_VOCAB_SIZE),
            "min_frequency": (1, 1 << 31),
            "digits": (1, 16),
            "sample_bytes": (1, 4_000_000_000),  # the trainer counts in 32 bits
            "max_token_bytes": (1, 1024),
            "sentinels": (0, 1000),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')
        if not self.texts and not self.metadata_fields:
            raise ConfigError('"texts" is false and "metadata_fields" is empty: there is nothing to learn from')
        if (least := 256 + len(self.special_tokens)) > self.vocab_size:
            raise ConfigError(f'"vocab_size" is {self.vocab_size}, but 256 bytes and special tokens are {least}')

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """All of them, in the order of their ids."""
        masks = (MASK,) if self.masks else ()
        sentinels = tuple(SENTINEL.format(number) for number in range(self.sentinels))
        middles = MIDDLE_TOKENS if self.fill_in_the_middle else ()
        pictures = ((START_OF_TEXT,) if self.encloses else ()) + ((IMAGE,) if self.images else ())
        return (*SPECIAL_TOKENS, *masks, *sentinels, *middles, *pictures)


def train_tokenizer_inputs(corpus: Artifact, *, config: TokenizerConfig | None = None) -> StageInputs:
    """What the result of `train_tokenizer` depends on."""
    return StageInputs(stage=STAGE, config=to_dict(config or TokenizerConfig()), parents=(corpus.id,), version=_VERSION)


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
        with run.phase("train"):
            backend = learn(sample, config)
        folder = run.new_folder()
        write_tokenizer(backend, folder)
        metrics = {
            "vocab_size": backend.get_vocab_size(),
            "sample_bytes": sample.bytes,
            "sample_documents": sample.documents,
        }
        if backend.get_vocab_size() < config.vocab_size:
            run.note(
                f"the text holds only enough pairs for {backend.get_vocab_size():,} tokens, not {config.vocab_size:,}"
            )
        return run.publish(folder, kind="tokenizer", metrics=metrics)


def learn(texts: Iterable[str], config: TokenizerConfig) -> Backend:
    """A trained `tokenizers.Tokenizer`. DataError if there is no text at all."""
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN % config.digits), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in config.special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=config.max_token_bytes,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
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
