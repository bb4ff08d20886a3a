"""GGUF vocabularies in: a tokenizer.json from the tokens, kinds, merges or scores that llama.cpp keeps.

Byte-level BPE ("gpt2") and SentencePiece's BPE ("llama"). What llama.cpp does not keep does not come back: how added
tokens treat the spaces beside them, and normalisers. This module does not know models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_reader import GgufContents
from bloomery.engine.gguf_splits import split_named
from bloomery.tokenizer.description import MAX_VOCAB_SIZE, added_token, byte_level, described, template
from bloomery.tokenizer.pieces import from_sentencepiece
from bloomery.tokenizer.sentencepiece_file import ModelType, Piece, PieceType, SentencePieceFile

_KEYS = "tokenizer.ggml."
_IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_END_IDS = ("eos_token_id", "eot_token_id", "eom_token_id")


class _Kind(IntEnum):
    """ggml's kinds of token, whose numbers are SentencePiece's."""

    NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


_KINDS = {int(kind): kind for kind in _Kind}


def special_ids(contents: GgufContents) -> tuple[dict[str, int], list[str]]:
    """bos_token, eos_token, unk_token and pad_token, those that the file names, and what to say of others: an id that
    no token has is passed over, as llama.cpp does it."""
    count = len(_tokens(contents)[0])
    named = {name: contents.whole(_KEYS + key) for name, key in _IDS.items() if _KEYS + key in contents.values}
    ids = {name: index for name, index in named.items() if 0 <= index < count}
    odd = [f"the file's {name} has the id {named[name]:,}, of {count:,}: there is none" for name in named.keys() - ids]
    return ids, sorted(odd)


def end_ids(contents: GgufContents) -> tuple[int, ...]:
    """Every id that the file says ends a text, a turn or a message."""
    count = len(_tokens(contents)[0])
    found = [contents.whole(_KEYS + key) for key in _END_IDS if _KEYS + key in contents.values]
    return tuple(dict.fromkeys(index for index in found if 0 <= index < count))


def tokenizer_files(contents: GgufContents, *, gemma: bool = False) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json. `gemma`: its markers of turns are special whatever their kind.

    ConfigError for a kind of tokenizer or a split pattern that is not known, DataError for lists that do not fit.
    """
    kind = contents.text(_KEYS + "model", "none")
    if kind not in ("gpt2", "llama"):
        raise ConfigError(
            f"{contents.path}: a tokenizer of kind {kind!r:.40} is not read from GGUF",
            hint="known: gpt2 (byte-level BPE), llama (SentencePiece's BPE); or import the model's folder",
        )
    tokens, kinds = _tokens(contents)
    if kind == "gpt2":
        whole, config = _byte_pairs(contents, tokens, kinds)
    else:
        whole, config = _sentence_pieces(contents, tokens, kinds, "gemma" if gemma else "llama")
    named = {name: tokens[index] for name, index in special_ids(contents)[0].items()}
    config = {**config, **named, "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if "tokenizer.chat_template" in contents.values:
        config["chat_template"] = contents.text("tokenizer.chat_template")
    written = {"tokenizer.json": whole, "tokenizer_config.json": config}
    return {name: (json.dumps(value, ensure_ascii=False) + "\n").encode() for name, value in written.items()}


def _tokens(contents: GgufContents) -> tuple[list[str], list[_Kind]]:
    """The tokens by id with their kinds, without the unused ones at the end that fill up the embedding."""
    tokens = contents.values.get(_KEYS + "tokens")
    if not isinstance(tokens, list) or not 0 < len(tokens) <= MAX_VOCAB_SIZE:
        raise contents.damaged("it has no list of tokens")
    numbers = _numbers(contents, "token_type", "iu", len(tokens))
    try:
        kinds = [_KINDS[number] for number in numbers] if numbers is not None else [_Kind.NORMAL] * len(tokens)
    except KeyError as error:
        raise contents.damaged(f"a kind of token is unknown: {error}") from None
    while kinds and kinds[-1] is _Kind.UNUSED:
        kinds.pop()
    tokens = tokens[: len(kinds)]
    if len(set(tokens)) < len(tokens) or not all(tokens):
        raise contents.damaged("two of its tokens have the same text, or one has none")
    return tokens, kinds


def _numbers(contents: GgufContents, key: str, dtypes: str, count: int) -> list[Any] | None:
    """The list of one number a token under a key, or None without the key."""
    values = contents.values.get(_KEYS + key)
    if values is None:
        return None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in dtypes or len(values) != count:
        raise contents.damaged(f"{_KEYS + key} should be a list of {count:,} numbers")
    return values.tolist()


def _added(tokens: Sequence[str], kinds: Sequence[_Kind]) -> list[dict[str, Any]]:
    special = (_Kind.CONTROL, _Kind.UNKNOWN)
    return [
        added_token(text, index, special=kind in special)
        for index, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (*special, _Kind.USER_DEFINED)
    ]


def _byte_pairs(contents: GgufContents, tokens: list[str], kinds: list[_Kind]) -> tuple[dict[str, Any], dict[str, Any]]:
    split = split_named(contents.text(_KEYS + "pre", "default"))
    vocab = {text: index for index, text in enumerate(tokens) if kinds[index] is not _Kind.UNUSED}
    merges = contents.values.get(_KEYS + "merges", [])
    pairs = [merge.split(" ") for merge in merges] if isinstance(merges, list) else [[]]
    known = all(len(pair) == 2 and {*pair, "".join(pair)} <= vocab.keys() for pair in pairs)
    if not known:
        raise contents.damaged(f"{_KEYS}merges should be a list of pairs of tokens that make a token")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": split.ignore_merges,
        "vocab": vocab,
        "merges": pairs,
    }
    ids, _ = special_ids(contents)
    if any(kinds[index] is _Kind.UNUSED or tokens[index] in ("A", "B") for index in ids.values()):
        raise contents.damaged("a token that begins, ends or fills up texts is an unused one, or a plain letter")
    bos = ids.get("bos_token") if contents.flag(_KEYS + "add_bos_token", split.adds_bos) else None
    eos = ids.get("eos_token") if contents.flag(_KEYS + "add_eos_token", False) else None
    whole = described(
        model,
        added_tokens=_added(tokens, kinds),
        normalizer=split.normalizer,
        pre_tokenizer=split.pre_tokenizer,
        decoder=byte_level(),
        post_processor=_enclosed(vocab, *(None if index is None else tokens[index] for index in (bos, eos))),
    )
    return whole, {"add_bos_token": bos is not None, "add_eos_token": eos is not None}


def _enclosed(vocab: Mapping[str, int], bos: str | None, eos: str | None) -> Any:
    """What stands around a text, and around each of two."""
    if bos is None and eos is None:
        return byte_level()
    first, last = [bos] if bos is not None else [], [eos] if eos is not None else []
    single, second = ([(text, kind) for text in (*first, "AB"[kind], *last)] for kind in (0, 1))
    return template(single, [*single, *second], vocab)


def _sentence_pieces(
    contents: GgufContents, tokens: list[str], kinds: list[_Kind], family: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    count = len(contents.values[_KEYS + "tokens"])
    scores = _numbers(contents, "scores", "f", count)
    unknown = [index for index, kind in enumerate(kinds) if kind is _Kind.UNKNOWN]
    if scores is None or len(unknown) != 1:
        raise contents.damaged("SentencePiece's tokens need scores, and one of them is the unknown one")
    # An unused piece between others keeps its id, and no text ever becomes it: as a special token.
    usual = {_Kind.UNUSED: _Kind.CONTROL}
    pieces = [
        Piece(text=text, score=score, type=PieceType(usual.get(kind, kind)))
        for text, score, kind in zip(tokens, scores, kinds, strict=False)
    ]
    ids, _ = special_ids(contents)
    file = SentencePieceFile(
        pieces=tuple(pieces),
        model_type=ModelType.BPE,
        byte_fallback=_Kind.BYTE in kinds,
        treat_whitespace_as_suffix=False,
        unk_id=unknown[0],
        bos_id=ids.get("bos_token", -1),
        eos_id=ids.get("eos_token", -1),
        pad_id=ids.get("pad_token", -1),
        normalizer="identity",
        precompiled_charsmap=b"",
        add_dummy_prefix=contents.flag(_KEYS + "add_space_prefix", True),
        remove_extra_whitespaces=contents.flag(_KEYS + "remove_extra_whitespaces", False),
        escape_whitespaces=True,
    )
    settings = {
        "add_bos_token": contents.flag(_KEYS + "add_bos_token", True),
        "add_eos_token": contents.flag(_KEYS + "add_eos_token", False),
    }
    return from_sentencepiece(file, family, settings, str(contents.path))
